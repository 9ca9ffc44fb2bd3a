#include "rlmba/plackett_luce.hpp"

#include <float.h>
#include <math.h>

#include "rlmba/random.hpp"
#include "rlmba/scratch.hpp"

namespace rlmba::RLMBA_ISA {

// From top_k.hpp, which declares it only for the instruction sets that callers choose from.
std::int64_t top_k(VectorView<const double> values, std::int64_t k, std::int64_t* indices);

namespace {

// The value is sum * exp(high), where `high` is the greatest logit added so far. Differences of
// logits thus stay precise even if the logits are large. Initially high is minus infinity and sum
// is 0.
struct Total {
  double high = -INFINITY;
  double sum = 0;

  RLMBA_INLINE void add(double z) {
    if (z > high) {
      sum = sum * ::exp(high - z) + 1;
      high = z;
    } else {
      sum += ::exp(z - high);
    }
  }

  // log(1 + this / exp(z)), precise even if the sum is small compared with exp(z).
  RLMBA_INLINE double log_odds_against(double z) const {
    if (high <= z) return ::log1p(sum * ::exp(high - z));
    return (high - z) + ::log(sum + ::exp(z - high));
  }
};

// The sum over the logits that are not marked in `drawn`.
Total total_of_rest(VectorView<const double> logits, const std::uint8_t* drawn) {
  Total total;
  for (std::int64_t i = 0; i < logits.size; ++i) {
    if (!drawn[i] && logits.data[i] > total.high) total.high = logits.data[i];
  }
  for (std::int64_t i = 0; i < logits.size; ++i) {
    if (!drawn[i]) total.sum += ::exp(logits.data[i] - total.high);
  }
  return total;
}

}  // namespace

std::int64_t plackett_luce_draw(VectorView<const double> logits, std::int64_t n, std::uint64_t seed,
                                std::int64_t* indices) {
  double high = -DBL_MAX;
  for (std::int64_t i = 0; i < logits.size; ++i) {
    if (!(logits.data[i] - logits.data[i] == 0)) return i;
    if (logits.data[i] > high) high = logits.data[i];
  }
  Scratch<double> keys(logits.size);
  for (std::int64_t i = 0; i < logits.size; ++i) {
    // Adding noise to logits of 1e17 and more would lose it, but their differences keep it.
    const double below = logits.data[i] - high;
    keys[i] = (below < -DBL_MAX ? -DBL_MAX : below) -
              ::log(-::log(uniform01(seed, static_cast<std::uint64_t>(i))));
  }
  return top_k(VectorView<const double>{keys.data(), logits.size}, n, indices);
}

double plackett_luce_log_prob(VectorView<const double> logits,
                              VectorView<const std::int64_t> indices, double* gradient) {
  const std::int64_t n = indices.size;
  Scratch<std::uint8_t> drawn(logits.size);
  for (std::int64_t i = 0; i < logits.size; ++i) drawn[i] = 0;
  for (std::int64_t j = 0; j < n; ++j) drawn[indices.data[j]] = 1;
  // remaining[j]: sum over all items not drawn before item j, computed from last to first.
  Scratch<Total> remaining(n);
  Total rest = total_of_rest(logits, drawn.data());
  double log_prob = 0;
  for (std::int64_t j = n - 1; j >= 0; --j) {
    const double z = logits.data[indices.data[j]];
    log_prob -= rest.log_odds_against(z);
    rest.add(z);
    remaining[j] = rest;
  }
  // d/dz_i = [i drawn] - sum over the draws j that i took part in of exp(z_i) / remaining[j]. The
  // sum of reciprocals is hazard / exp(high), where `high` never increases from draw to draw.
  double hazard = 0;
  double high = rest.high;
  for (std::int64_t j = 0; j < n; ++j) {
    hazard = hazard * ::exp(remaining[j].high - high) + 1 / remaining[j].sum;
    high = remaining[j].high;
    gradient[indices.data[j]] = 1 - hazard * ::exp(logits.data[indices.data[j]] - high);
  }
  for (std::int64_t i = 0; i < logits.size; ++i) {
    if (!drawn[i]) gradient[i] = -hazard * ::exp(logits.data[i] - high);
  }
  return log_prob;
}

}  // namespace rlmba::RLMBA_ISA
