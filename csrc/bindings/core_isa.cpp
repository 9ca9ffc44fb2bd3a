#include <atomic>
#include <stdexcept>

#include "rlmba/isa.hpp"

namespace rlmba {

Isa best_isa() {
#if defined(RLMBA_HAVE_avx512) && defined(RLMBA_HAVE_avx2)
  static const Isa best = [] {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      return Isa::avx512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("bmi2")) {
      return Isa::avx2;
    }
    return Isa::generic;
  }();
  return best;
#else
  return Isa::generic;
#endif
}

namespace {
std::atomic<int> requested{-1};
std::atomic<bool> tiles_allowed{true};
}  // namespace

Isa active_isa() {
  const int r = requested.load(std::memory_order_relaxed);
  return r < 0 ? best_isa() : static_cast<Isa>(r);
}

void set_isa(Isa isa) {
  if (static_cast<int>(isa) > static_cast<int>(best_isa())) {
    throw std::invalid_argument("this CPU or build does not support the instruction set asked for");
  }
  requested.store(static_cast<int>(isa), std::memory_order_relaxed);
}

bool matrix_tiles_allowed() { return tiles_allowed.load(std::memory_order_relaxed); }

void allow_matrix_tiles(bool allowed) { tiles_allowed.store(allowed, std::memory_order_relaxed); }

}  // namespace rlmba
