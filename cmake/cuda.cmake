# The extension _cuda is optional; CPUs do not need it. If a CUDA compiler works, AUTO builds it for the
# GPUs of this machine, and ON builds it for 80 and 90 even without a GPU. CMAKE_CUDA_ARCHITECTURES
# overrides the architectures of both.
string(TOUPPER "${RLMBA_CUDA}" _rlmba_cuda)
if(NOT _rlmba_cuda MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "RLMBA_CUDA=${RLMBA_CUDA}: expected AUTO, ON or OFF")
endif()

# Sets `result` to the architectures of this machine's GPUs; empty if the kernels support none of them.
# For a GPU that is newer than the compiler, the architecture is 90: the driver translates its PTX.
function(rlmba_architectures_here result)
  set(architectures "")
  find_program(RLMBA_NVIDIA_SMI nvidia-smi)
  if(RLMBA_NVIDIA_SMI)
    execute_process(
      COMMAND ${RLMBA_NVIDIA_SMI} --query-gpu=compute_cap --format=csv,noheader
      OUTPUT_VARIABLE printed ERROR_QUIET)
    execute_process(
      COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch OUTPUT_VARIABLE known ERROR_QUIET)
    string(REGEX MATCHALL "[0-9]+\\.[0-9]+" capabilities "${printed}")
    foreach(capability IN LISTS capabilities)
      string(REPLACE "." "" architecture ${capability})
      if(capability VERSION_LESS 8.0)
        continue()
      elseif(NOT known MATCHES "compute_${architecture}\n")
        set(architecture 90)
      endif()
      list(APPEND architectures ${architecture})
    endforeach()
    list(REMOVE_DUPLICATES architectures)
  endif()
  set(${result} "${architectures}" PARENT_SCOPE)
endfunction()

set(RLMBA_BUILD_CUDA OFF)
set(_rlmba_cuda_reason "no CUDA compiler used")
if(NOT _rlmba_cuda STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT "$ENV{CUDAARCHS}" STREQUAL "")
      set(CMAKE_CUDA_ARCHITECTURES $ENV{CUDAARCHS})
    elseif(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND _rlmba_cuda STREQUAL "ON")
      set(CMAKE_CUDA_ARCHITECTURES 80 90)
    elseif(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      rlmba_architectures_here(CMAKE_CUDA_ARCHITECTURES)
    endif()
    if(CMAKE_CUDA_ARCHITECTURES)
      set(RLMBA_BUILD_CUDA ON)
    else()
      set(_rlmba_cuda_reason "no GPU of compute capability 8.0 or later; RLMBA_CUDA=ON builds it anyway")
    endif()
  elseif(_rlmba_cuda STREQUAL "ON")
    message(FATAL_ERROR "RLMBA_CUDA=ON but no working nvcc was found. Put nvcc on PATH or set CUDACXX; "
                        "RLMBA_CUDA=AUTO builds without it.")
  endif()
endif()

if(RLMBA_BUILD_CUDA)
  message(STATUS "rlmba: CUDA extension ON (RLMBA_CUDA=${_rlmba_cuda}, ${CMAKE_CUDA_COMPILER}, "
                 "architectures ${CMAKE_CUDA_ARCHITECTURES})")
  set(CMAKE_CUDA_STANDARD 17)
  enable_language(CUDA)
  file(GLOB RLMBA_CUDA_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/csrc/cuda/*.cu
       ${PROJECT_SOURCE_DIR}/kernels/*/*.cu)
  file(GLOB RLMBA_CUDA_BINDINGS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/csrc/bindings/cuda*.cpp)
  pybind11_add_module(_cuda MODULE ${RLMBA_CUDA_BINDINGS} ${RLMBA_CUDA_SOURCES})
  set_target_properties(_cuda PROPERTIES CUDA_RUNTIME_LIBRARY Static CUDA_VISIBILITY_PRESET hidden)
  target_include_directories(_cuda PRIVATE ${PROJECT_SOURCE_DIR}/csrc/include)
  target_compile_definitions(_cuda PRIVATE RLMBA_CUDA_MODULE=_cuda RLMBA_CUDA_EMULATED=0)
  target_compile_options(
    _cuda PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra>"
                  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra>")
  if(RLMBA_WERROR)
    target_compile_options(
      _cuda PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings;-Xcompiler=-Werror>"
                    "$<$<COMPILE_LANGUAGE:CXX>:-Werror>")
  endif()
  install(TARGETS _cuda LIBRARY DESTINATION rlmba)
else()
  message(STATUS "rlmba: CUDA extension OFF (RLMBA_CUDA=${_rlmba_cuda}, "
                 "${_rlmba_cuda_reason}; CPU kernels are built)")
endif()
