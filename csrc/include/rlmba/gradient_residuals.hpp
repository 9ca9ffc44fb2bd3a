#pragma once

#include <cstdint>

#include "rlmba/isa.hpp"
#include "rlmba/view.hpp"

namespace rlmba {

// Writes softmax(logits) minus the one-hot vector of the largest entry (the lowest class on ties)
// into `out` [rows * cols]. The entry of that class is minus the sum of the others. Computed in
// double precision. Returns -1, or the first row that is not finite, in which case `out` is
// unspecified.
#define RLMBA_DECLARE_RESIDUALS                                                \
  std::int64_t gradient_residuals(MatrixView<const float> logits, float* out); \
  std::int64_t gradient_residuals(MatrixView<const double> logits, double* out);
RLMBA_FOR_EACH_ISA(RLMBA_DECLARE_RESIDUALS)
#undef RLMBA_DECLARE_RESIDUALS

}  // namespace rlmba
