#pragma once

#include <cstdint>

#include "rlmba/isa.hpp"
#include "rlmba/view.hpp"

namespace rlmba {

// Which entries are used: row i, column j at data[i * row_stride + j * column_stride]; all if data
// is null.
struct Mask {
  const std::uint8_t* data;
  std::int64_t row_stride;
  std::int64_t column_stride;
};

// Maps each column of x linearly to [0, 1], into `out` [rows, cols], contiguous, which may be x
// itself if that is contiguous. The smallest entry becomes exactly 0, the largest exactly 1, and a
// constant column 0. Masked entries are not read and become 0. Returns -1, or the first row with a
// number that is not finite; `out` is then unchanged.
#define RLMBA_DECLARE_MINMAX                                             \
  std::int64_t minmax(MatrixView<const float> x, Mask mask, float* out); \
  std::int64_t minmax(MatrixView<const double> x, Mask mask, double* out);
RLMBA_FOR_EACH_ISA(RLMBA_DECLARE_MINMAX)
#undef RLMBA_DECLARE_MINMAX

}  // namespace rlmba
