#pragma once

// Run-time choice of instruction set. Each kernel of csrc/cpu is compiled once per set into
// rlmba::generic, rlmba::avx2 and rlmba::avx512 (the macro RLMBA_ISA names the one being compiled);
// bindings call it through RLMBA_DISPATCH.
//
// Rule for csrc/cpu: do not instantiate std:: templates with types that all instruction sets share
// (std::vector<float>, std::sort on float*). The linker keeps only one copy, possibly the AVX-512
// one. Use scratch.hpp, or a type from namespace rlmba::RLMBA_ISA.

namespace rlmba {

enum class Isa { generic = 0, avx2 = 1, avx512 = 2 };

// The instruction set in use: the best that the CPU has, or a lower one chosen with set_isa.
Isa active_isa();
Isa best_isa();
void set_isa(Isa isa);

// Whether kernels may use bfloat16 matrix tiles (AMX) where the processor has them: an extension of
// avx512. Results do not depend on it, except for rounding in sequential_gcn.hpp.
bool matrix_tiles_allowed();
void allow_matrix_tiles(bool allowed);

}  // namespace rlmba

#if defined(RLMBA_HAVE_avx512) && defined(RLMBA_HAVE_avx2)
#define RLMBA_DISPATCH(function, ...)                                                     \
  (::rlmba::active_isa() == ::rlmba::Isa::avx512 ? ::rlmba::avx512::function(__VA_ARGS__) \
   : ::rlmba::active_isa() == ::rlmba::Isa::avx2 ? ::rlmba::avx2::function(__VA_ARGS__)   \
                                                 : ::rlmba::generic::function(__VA_ARGS__))
#define RLMBA_FOR_EACH_ISA(declaration) \
  namespace generic {                   \
  declaration                           \
  }                                     \
  namespace avx2 {                      \
  declaration                           \
  }                                     \
  namespace avx512 {                    \
  declaration                           \
  }
#else
#define RLMBA_DISPATCH(function, ...) (::rlmba::generic::function(__VA_ARGS__))
#define RLMBA_FOR_EACH_ISA(declaration) \
  namespace generic {                   \
  declaration                           \
  }
#endif

// A kernel sees only its own instruction set, so that kernels that call each other never mix sets.
#ifdef RLMBA_ISA
#undef RLMBA_FOR_EACH_ISA
#define RLMBA_FOR_EACH_ISA(declaration) \
  namespace RLMBA_ISA {                 \
  declaration                           \
  }
#endif
