#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "rlmba/affinity_bounds.hpp"
#include "rlmba/herding.hpp"
#include "rlmba/modality_rows.hpp"
#include "rlmba/parallel.hpp"
#include "rlmba/scaled_rows.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/vector_double.hpp"

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

// The targets: for each, the distance to its nearest center and the largest kernel of any center.
// Gains and kernels are computed in double precision from exact distances.
template <class T>
class Cover {
 public:
  Cover(const HerdingProblem<T>& problem, std::int64_t padding)
      : problem_(problem),
        count_(problem.targets.size),
        nearest_(count_),
        covered_(count_),
        reach_(count_ + padding),
        floor_(count_ + padding),
        utility_(count_ + padding) {
    for (std::int64_t t = 0; t < count_ + padding; ++t) {
      const bool real = t < count_;
      if (real) nearest_[t] = std::numeric_limits<double>::infinity();
      if (real) covered_[t] = 0;
      reach_[t] = real ? std::numeric_limits<float>::infinity() : -1.0f;
      floor_[t] = 0;
      utility_[t] = real ? above(utility(t)) : 0.0f;
    }
  }

  std::int64_t count() const { return count_; }
  TargetBounds bounds() const { return {reach_.data(), floor_.data(), utility_.data()}; }
  const float* reach() const { return reach_.data(); }
  void set_scale(double squared) { scale_ = squared; }

  // Takes a center into account that is nearer than all before, at the distance `squared`.
  void cover(std::int64_t t, double squared) {
    if (!(squared < nearest_[t])) return;
    nearest_[t] = squared;
    // Rounded up, and beyond the rounding of exact distances.
    reach_[t] = squared > 0 ? above(0.5 * squared * scale_ * (1 + 0x1.0p-36)) : -1.0f;
  }
  // Computes the covered parts of targets [begin, end) after calls of cover().
  void update(std::int64_t begin, std::int64_t end) {
    double squared[kBatch];
    double k[kBatch];
    for (std::int64_t t = begin; t < end; t += kBatch) {
      const std::int64_t some = min_i64(kBatch, end - t);
      for (std::int64_t i = 0; i < kBatch; ++i) squared[i] = nearest_[i < some ? t + i : t];
      affinities(squared, k);
      for (std::int64_t i = 0; i < some; ++i) set_covered(t + i, k[i]);
    }
  }

  float floor(std::int64_t t) const { return floor_[t]; }
  float utility_above(std::int64_t t) const { return utility_[t]; }

  // The gain of the row at `position` from `some` targets, given by target(i), and whether to cover
  // them by it.
  template <bool Picked, class Target>
  double gain(std::int64_t position, std::int64_t some, const Target& target) {
    const std::int64_t width = problem_.rows.width();
    const std::int64_t batches = max_i64(1, chunk_rows(width) / kBatch);
    const std::int64_t chunk = some * width > kSerial ? batches * kBatch : max_i64(1, some);
    const auto part = [&](std::int64_t begin, std::int64_t end) {
      double total = 0;
      for (std::int64_t b = begin; b < end; b += kBatch) {
        total += gain_of_batch<Picked>(position, b, min_i64(b + kBatch, end), target);
      }
      return total;
    };
    return parallel_reduce(some, chunk, 0.0, part, [](double a, double b) { return a + b; });
  }

 private:
  static constexpr std::int64_t kBatch = 32;
  static constexpr std::int64_t kSerial = std::int64_t{1} << 17;
  static constexpr double kRound = 3.0;

  template <bool Picked, class Target>
  double gain_of_batch(std::int64_t position, std::int64_t begin, std::int64_t end,
                       const Target& target) {
    double total = 0;
    double squared[kBatch];
    double k[kBatch];
    std::int64_t hits[kBatch];
    std::int64_t n = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t t = target(i);
      if (reach_[t] < 0) continue;
      const double d =
          modality_distance(problem_.rows, problem_.targets.data[t], problem_.rows, position);
      if (!(d < nearest_[t])) continue;
      hits[n] = t;
      squared[n++] = d;
    }
    if (n == 0) return 0;
    for (std::int64_t i = n; i < kBatch; ++i) squared[i] = 0;
    affinities(squared, k);
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t t = hits[i];
      if constexpr (Picked) {
        cover(t, squared[i]);
        set_covered(t, k[i]);
      } else {
        const double more = k[i] - covered_[t];
        // Rounded to a multiple of 2^-51, so that sums are exact in any order.
        if (more > 0) total += (utility(t) * more + kRound) - kRound;
      }
    }
    return total;
  }

  static float above(double x) {
    return std::nextafter(static_cast<float>(x), std::numeric_limits<float>::infinity());
  }
  double utility(std::int64_t t) const { return problem_.utility[problem_.targets.data[t]]; }

  void set_covered(std::int64_t t, double k) {
    if (!(k > covered_[t])) return;
    covered_[t] = k;
    floor_[t] = std::nextafter(static_cast<float>(k), 0.0f);
  }

  // k = exp(-D / radius^2).
  void affinities(const double (&squared)[kBatch], double (&k)[kBatch]) const {
    if (problem_.radius == 0) {
      for (std::int64_t i = 0; i < kBatch; ++i) k[i] = squared[i] == 0 ? 1 : 0;
      return;
    }
    static_assert(kBatch % (4 * kWide) == 0);
    for (std::int64_t i = 0; i < kBatch; i += 4 * kWide) {
      DoubleVec x[4];
      DoubleVec p[4];
      for (int v = 0; v < 4; ++v) {
        const DoubleVec distance = load_wide(squared + i + v * kWide);
        x[v] = -(distance / problem_.radius) / problem_.radius;
        // k is 0 at an infinite distance, also if the radius is infinite and the quotient NaN.
        const LongVec finite = distance <= std::numeric_limits<double>::max();
        x[v] = (DoubleVec)(((LongVec)x[v] & finite) | ((LongVec)wide(-1e300) & ~finite));
      }
      exp_wide(x, p);
      for (int v = 0; v < 4; ++v) store_wide(k + i + v * kWide, p[v]);
    }
  }

  const HerdingProblem<T>& problem_;
  std::int64_t count_;
  double scale_ = 1;
  Scratch<double> nearest_;
  Scratch<double> covered_;
  Scratch<float> reach_;
  Scratch<float> floor_;
  Scratch<float> utility_;
};

}  // namespace rlmba::RLMBA_ISA
#endif
