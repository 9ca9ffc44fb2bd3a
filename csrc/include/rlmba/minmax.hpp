#pragma once

#include <cstdint>

#include "rlmba/isa.hpp"
#include "rlmba/view.hpp"

namespace rlmba {

// Which entries count: row i, column j at data[i * row_stride + j * column_stride]; data null: all.
struct Mask {
  const std::uint8_t* data;
  std::int64_t row_stride;
  std::int64_t column_stride;
};

// Each column of x mapped linearly to [0, 1] into `out` [rows, cols], contiguous, which may be x
// itself where that is contiguous: its smallest entry exactly 0, its largest exactly 1, a constant
// column 0. Entries the mask leaves out are not read and become 0. Returns -1, or the first row
// with a number that is not finite; `out` is then untouched.
#define RLMBA_DECLARE_MINMAX                                             \
  std::int64_t minmax(MatrixView<const float> x, Mask mask, float* out); \
  std::int64_t minmax(MatrixView<const double> x, Mask mask, double* out);
RLMBA_FOR_EACH_ISA(RLMBA_DECLARE_MINMAX)
#undef RLMBA_DECLARE_MINMAX

}  // namespace rlmba
