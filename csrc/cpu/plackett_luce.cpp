#include "rlmba/plackett_luce.hpp"

#include <math.h>

#include "rlmba/random.hpp"
#include "rlmba/scratch.hpp"

namespace rlmba::RLMBA_ISA {

// Of top_k.hpp, which declares it only for the sets that callers choose from.
std::int64_t top_k(VectorView<const double> values, std::int64_t k, std::int64_t* indices);

namespace {

// log(exp(a) + exp(b)), either of which may be minus infinity.
double log_add(double a, double b) {
  const double high = a > b ? a : b;
  if (high == -INFINITY) return high;
  return high + ::log1p(::exp((a > b ? b : a) - high));
}

// log sum exp of the logits that `drawn` does not mark; minus infinity if it marks them all.
double log_sum_rest(VectorView<const double> logits, const std::uint8_t* drawn) {
  double high = -INFINITY;
  for (std::int64_t i = 0; i < logits.size; ++i) {
    if (!drawn[i] && logits.data[i] > high) high = logits.data[i];
  }
  if (high == -INFINITY) return high;
  double sum = 0;
  for (std::int64_t i = 0; i < logits.size; ++i) {
    if (!drawn[i]) sum += ::exp(logits.data[i] - high);
  }
  return high + ::log(sum);
}

}  // namespace

std::int64_t plackett_luce_draw(VectorView<const double> logits, std::int64_t n, std::uint64_t seed,
                                std::int64_t* indices) {
  for (std::int64_t i = 0; i < logits.size; ++i) {
    if (!(logits.data[i] - logits.data[i] == 0)) return i;
  }
  Scratch<double> keys(logits.size);
  for (std::int64_t i = 0; i < logits.size; ++i) {
    keys[i] = logits.data[i] - ::log(-::log(uniform01(seed, static_cast<std::uint64_t>(i))));
  }
  return top_k(VectorView<const double>{keys.data(), logits.size}, n, indices);
}

double plackett_luce_log_prob(VectorView<const double> logits,
                              VectorView<const std::int64_t> indices, double* gradient) {
  const std::int64_t n = indices.size;
  Scratch<std::uint8_t> drawn(logits.size);
  for (std::int64_t i = 0; i < logits.size; ++i) drawn[i] = 0;
  for (std::int64_t j = 0; j < n; ++j) drawn[indices.data[j]] = 1;
  // remaining[j]: log sum exp of everything still there when item j is drawn, from last to first.
  Scratch<double> remaining(n);
  double log_sum = log_sum_rest(logits, drawn.data());
  double log_prob = 0;
  for (std::int64_t j = n - 1; j >= 0; --j) {
    const double z = logits.data[indices.data[j]];
    // z - log(exp(z) + exp(rest)), written so that a near-certain draw keeps its small
    // log-probability.
    log_prob -=
        log_sum > z ? (log_sum - z) + ::log1p(::exp(z - log_sum)) : ::log1p(::exp(log_sum - z));
    log_sum = log_add(z, log_sum);
    remaining[j] = log_sum;
  }
  // d/dz_i = [i drawn] - sum over the draws j that i took part in of exp(z_i - remaining[j]).
  double log_hazard = -INFINITY;
  for (std::int64_t j = 0; j < n; ++j) {
    log_hazard = log_add(log_hazard, -remaining[j]);
    gradient[indices.data[j]] = 1 - ::exp(logits.data[indices.data[j]] + log_hazard);
  }
  for (std::int64_t i = 0; i < logits.size; ++i) {
    if (!drawn[i]) gradient[i] = -::exp(logits.data[i] + log_hazard);
  }
  return log_prob;
}

}  // namespace rlmba::RLMBA_ISA
