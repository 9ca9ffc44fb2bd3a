#pragma once

#include <cstdint>

#include "rlmba/isa.hpp"
#include "rlmba/view.hpp"

namespace rlmba {

// Centers multiplied at once; fewer if scratch memory is bounded.
inline constexpr std::int64_t kCentersPerPass = 1024;

// update_nearest: `squared` and `labels` [x.rows] hold the squared Euclidean distance of each row
// to the nearest previous center, and its label (infinity and -1 without one). They are updated
// with `centers`, labeled first_label, first_label + 1, ... A later center replaces an earlier one
// only if it is strictly nearer, so ties go to the lowest label. Returns -1, or the position of the
// first row that is not finite, in which case the outputs are unspecified. The x.rows x
// centers.rows distances are never stored: scratch memory is at most max(scratch_bytes,
// nearest_scratch), and results do not depend on it.
//
// The result is exact in this sense: squared distances are sums of (x - c)^2 in double precision,
// lane by lane in an order that does not depend on the instruction set. A matrix product in the
// input's precision or in split bfloat16 (AMX), on rows and centers shifted by the mean of the
// centers, only preselects the centers that can be nearest. All centers within the proven rounding
// error of the least score are compared by their exact distances.
//
// nearest_scratch: the minimum scratch memory, in bytes, for rows of `dim` values.
//
// first_bad_row: the first row that holds NaN or infinity, or -1.
#define RLMBA_DECLARE_NEAREST(T)                                                    \
  std::int64_t update_nearest(MatrixView<const T> x, MatrixView<const T> centers,   \
                              std::int64_t first_label, std::int64_t scratch_bytes, \
                              double* squared, std::int64_t* labels);               \
  std::int64_t nearest_scratch(const T* tag, std::int64_t dim);                     \
  std::int64_t first_bad_row(MatrixView<const T> x);
RLMBA_FOR_EACH_ISA(RLMBA_DECLARE_NEAREST(float) RLMBA_DECLARE_NEAREST(double))
#undef RLMBA_DECLARE_NEAREST

}  // namespace rlmba
