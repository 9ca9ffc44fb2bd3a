#pragma once

#include <cstdint>

#include "rlmba/isa.hpp"
#include "rlmba/view.hpp"

namespace rlmba {

// Writes the positions of the `k` largest values, largest first, ties by the lower position, into
// `indices` (space for k). 0 <= k <= size. Returns -1, or the position of the first value that is
// not finite, in which case `indices` is unspecified. O(size + k log k) for values in random order.
#define RLMBA_DECLARE_TOP_K                                                                  \
  std::int64_t top_k(VectorView<const float> values, std::int64_t k, std::int64_t* indices); \
  std::int64_t top_k(VectorView<const double> values, std::int64_t k, std::int64_t* indices);
RLMBA_FOR_EACH_ISA(RLMBA_DECLARE_TOP_K)
#undef RLMBA_DECLARE_TOP_K

}  // namespace rlmba
