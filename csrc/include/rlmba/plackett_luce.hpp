#pragma once

#include <cstdint>

#include "rlmba/isa.hpp"
#include "rlmba/view.hpp"

namespace rlmba {

// Writes n positions drawn without replacement by the softmax over those that remain (the
// Plackett-Luce distribution), in drawn order. They are the n largest of logits + Gumbel noise,
// with noise i from uniform number i of `seed`. Returns -1, or the first position that is not
// finite.
//
// Log-probability of the ordered set `indices` (distinct, within range) and its gradient [size]
// with respect to the (finite) logits.
#define RLMBA_DECLARE_PLACKETT_LUCE                                                \
  std::int64_t plackett_luce_draw(VectorView<const double> logits, std::int64_t n, \
                                  std::uint64_t seed, std::int64_t* indices);      \
  double plackett_luce_log_prob(VectorView<const double> logits,                   \
                                VectorView<const std::int64_t> indices, double* gradient);
RLMBA_FOR_EACH_ISA(RLMBA_DECLARE_PLACKETT_LUCE)
#undef RLMBA_DECLARE_PLACKETT_LUCE

}  // namespace rlmba
