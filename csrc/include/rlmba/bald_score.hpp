#pragma once

#include <cstdint>

#include "rlmba/isa.hpp"
#include "rlmba/view.hpp"

namespace rlmba {

// K passes over N samples: the numbers [C] of pass k and sample i start at data + k * pass_stride +
// i * row_stride, in elements.
template <class T>
struct PassesView {
  const T* data;
  std::int64_t passes;
  std::int64_t rows;
  std::int64_t classes;
  std::int64_t pass_stride;
  std::int64_t row_stride;

  RLMBA_INLINE const T* at(std::int64_t k, std::int64_t i) const {
    return data + k * pass_stride + i * row_stride;
  }
};

// Tolerance for the sum of the probabilities of a pass, which should be one.
inline constexpr double kProbabilitySlack = 1e-3;

// Writes the mutual information [N], in nats, between the class and the pass. `logits` says whether
// the numbers are logits or probabilities. Returns -1, or the first sample with a number that is
// not finite or with probabilities that are negative or do not sum to one, in which case `scores`
// is unspecified. K >= 1, C >= 1.
#define RLMBA_DECLARE_BALD                                                               \
  std::int64_t bald_score(const PassesView<float>& passes, bool logits, double* scores); \
  std::int64_t bald_score(const PassesView<double>& passes, bool logits, double* scores);
RLMBA_FOR_EACH_ISA(RLMBA_DECLARE_BALD)
#undef RLMBA_DECLARE_BALD

}  // namespace rlmba
