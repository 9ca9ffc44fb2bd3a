# _cuda: optional, never needed to run on a CPU. AUTO builds it where a CUDA compiler works.
string(TOUPPER "${RLMBA_CUDA}" _rlmba_cuda)
if(NOT _rlmba_cuda MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "RLMBA_CUDA=${RLMBA_CUDA}: expected AUTO, ON or OFF")
endif()

set(RLMBA_BUILD_CUDA OFF)
if(NOT _rlmba_cuda STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(RLMBA_BUILD_CUDA ON)
  elseif(_rlmba_cuda STREQUAL "ON")
    message(FATAL_ERROR "RLMBA_CUDA=ON but no working nvcc was found. Put nvcc on PATH or set CUDACXX; "
                        "RLMBA_CUDA=AUTO builds without it.")
  endif()
endif()

if(RLMBA_BUILD_CUDA)
  message(STATUS "rlmba: CUDA extension ON (RLMBA_CUDA=${_rlmba_cuda}, ${CMAKE_CUDA_COMPILER})")
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80 90)
  endif()
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
                 "no CUDA compiler used; CPU kernels are built)")
endif()
