#pragma once

#include <omp.h>

#include <cstdint>

#include "rlmba/view.hpp"

namespace rlmba {

// Rows per partial sum of a reduction; one thread then adds the partial sums in order. It is fixed
// so that sums do not depend on the number of threads.
inline constexpr std::int64_t kReductionRows = 4096;

RLMBA_INLINE std::int64_t chunk_count(std::int64_t n, std::int64_t chunk) {
  return (n + chunk - 1) / chunk;
}

RLMBA_INLINE std::int64_t min_i64(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

RLMBA_INLINE std::int64_t max_i64(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

}  // namespace rlmba
