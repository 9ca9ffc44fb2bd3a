# _core: every file of csrc/cpu is compiled once per instruction set, into a separate namespace
# (RLMBA_ISA); csrc/include/rlmba/isa.hpp chooses one at run time.
file(GLOB RLMBA_CPU_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/csrc/cpu/*.cpp)
file(GLOB RLMBA_CORE_BINDINGS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/csrc/bindings/core*.cpp)

set(_rlmba_isas generic)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND _rlmba_isas avx2 avx512)
endif()
set(RLMBA_ISAS "${_rlmba_isas}" CACHE STRING "Instruction sets to compile for: these, or generic alone")
set(RLMBA_OPTIMIZE -O3)
if(RLMBA_SANITIZE)
  set(RLMBA_OPTIMIZE -O1)  # instrumented code takes many times longer to compile at -O3
endif()
set(RLMBA_FLAGS_generic "")
set(RLMBA_FLAGS_avx2 -mavx2 -mfma -mf16c -mbmi -mbmi2)
set(RLMBA_FLAGS_avx512 ${RLMBA_FLAGS_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl
    -mprefer-vector-width=512)

pybind11_add_module(_core MODULE ${RLMBA_CORE_BINDINGS})
target_include_directories(_core PRIVATE ${PROJECT_SOURCE_DIR}/csrc/include)
target_link_libraries(_core PRIVATE Threads::Threads)
target_compile_options(_core PRIVATE -Wall -Wextra)
target_compile_definitions(_core PRIVATE RLMBA_VERSION="${SKBUILD_PROJECT_VERSION}")

foreach(isa IN LISTS RLMBA_ISAS)
  set(target rlmba_cpu_${isa})
  add_library(${target} OBJECT ${RLMBA_CPU_SOURCES})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/csrc/include)
  target_compile_definitions(${target} PRIVATE RLMBA_ISA=${isa} RLMBA_ISA_${isa}=1)
  # No -ffast-math: finiteness checks and reproducible sums depend on IEEE semantics.
  target_compile_options(${target} PRIVATE ${RLMBA_OPTIMIZE} -fno-math-errno -fno-trapping-math
                         -fopenmp-simd -Wall -Wextra ${RLMBA_FLAGS_${isa}})
  target_link_libraries(_core PRIVATE ${target})
  target_compile_definitions(_core PRIVATE RLMBA_HAVE_${isa}=1)
  if(RLMBA_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
endforeach()

install(TARGETS _core LIBRARY DESTINATION rlmba)
