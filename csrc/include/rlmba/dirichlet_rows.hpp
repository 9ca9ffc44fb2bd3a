#pragma once

#include "rlmba/dirichlet_sums.hpp"

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

// Eq 3 and Eq 4 row by row for all modalities, each number read once. float input is summed as
// vectors of float; rows for which that overflows or loses digits, and double input, one value at a
// time as double with the C library's functions.
template <class T, class E>
class DirichletRows {
 public:
  // Scratch memory of one thread: M + 1 sums, M weights, (M + 1) kLanes vectors, and kBlockColumns
  // numbers for the fused alpha.
  struct Work {
    Symmetric* sums;
    double* weights;
    VectorSums* lanes;
    double* fused;
  };

  DirichletRows(const DirichletInput<T>& in, const Temperature* temperatures)
      : in_(in), temperatures_(temperatures), classes_(in.x[0].cols) {}

  // Variances of row i: modality [M], and fused unless null. False if the row is not valid.
  RLMBA_INLINE bool row(std::int64_t i, const Work& work, T* modality, T* fused) const {
    const std::int64_t m = in_.modalities;
    if (fused != nullptr) row_weights(in_, i, work.weights);
    bool good = false;
    if constexpr (sizeof(T) == sizeof(float)) {
      add_up<float>(i, work, fused != nullptr);
      good = within(i, work.sums, fused != nullptr, 1e18, 1e-28);
    }
    if (__builtin_expect(!good, 0)) {
      add_up<double>(i, work, fused != nullptr);
      good = within(i, work.sums, fused != nullptr, 1e100, 1e-200);
    }
    if (__builtin_expect(!good, 0)) return careful_row(i, work.weights, modality, fused);
    for (std::int64_t k = 0; k < m; ++k) {
      modality[k] = absent(i, k) ? T(0) : static_cast<T>(work.sums[k].variance(classes_));
    }
    if (fused != nullptr) *fused = static_cast<T>(work.sums[m].variance(classes_));
    return true;
  }

  // The same for `count` <= kLanes rows from i on. Returns the number of valid rows before the
  // first invalid one.
  RLMBA_INLINE std::int64_t group(std::int64_t i, std::int64_t count, const Work& work, T* modality,
                                  T* fused) const {
    const std::int64_t m = in_.modalities;
    bool good[kLanes];
    for (int r = 0; r < kLanes; ++r)
      good[r] = sizeof(T) == sizeof(float) && classes_ <= kBlockColumns;
    if constexpr (sizeof(T) == sizeof(float)) {
      if (good[0]) {
        for (std::int64_t r = 0; r < count; ++r) {
          if (fused != nullptr) row_weights(in_, i + r, work.weights);
          block<float>(
              i + r, 0, classes_, work, fused != nullptr,
              [&](std::int64_t k, const VectorSums& sums) { work.lanes[k * kLanes + r] = sums; });
        }
        for (std::int64_t k = 0; k < m; ++k) {
          finish(i, k, count, work.lanes + k * kLanes, modality + k, m, good);
        }
        if (fused != nullptr) finish(i, -1, count, work.lanes + m * kLanes, fused, 1, good);
      }
    }
    for (std::int64_t r = 0; r < count; ++r) {
      T* const f = fused == nullptr ? nullptr : fused + r;
      if (!good[r] && !row(i + r, work, modality + r * m, f)) return r;
    }
    return count;
  }

 private:
  // Variances of modality k (-1: of the fused alpha) of the rows whose sums are in `lanes`; clears
  // good[r] where they are out of range.
  RLMBA_INLINE void finish(std::int64_t i, std::int64_t k, std::int64_t count, VectorSums* lanes,
                           T* out, std::int64_t stride, bool* good) const {
    fold_all_rows(lanes);
    alignas(64) float e1[kLanes];
    alignas(64) float e2[kLanes];
    alignas(64) double variance[kLanes];
    store(e1, lanes[0].e1);
    store(e2, lanes[0].e2);
    bool fine[kLanes];
    for (int r = 0; r < kLanes; ++r) {
      const Symmetric sums{e1[r], e2[r]};
      variance[r] = sums.variance(classes_);
      fine[r] = (e1[r] < 1e18f) & (e2[r] > 1e-28f);
    }
    for (std::int64_t r = 0; r < count; ++r) {
      const bool here = k < 0 || !absent(i + r, k);
      good[r] &= fine[r] | !here;
      out[r * stride] = here ? static_cast<T>(variance[r]) : T(0);
    }
  }

  RLMBA_INLINE bool absent(std::int64_t i, std::int64_t k) const { return is_absent(in_, i, k); }

  // Passes the sums of `count` columns from `start` to sink(k, sums): k = M for the fused alpha.
  template <class Number, class Sink>
  RLMBA_INLINE void block(std::int64_t i, std::int64_t start, std::int64_t count, const Work& work,
                          bool fuse, const Sink& sink) const {
    Number* const buffer = reinterpret_cast<Number*>(work.fused);
    bool first = true;
    for (std::int64_t k = 0; k < in_.modalities; ++k) {
      if (absent(i, k)) continue;
      const T* x = in_.x[k].row(i) + start;
      const Temperature& t = temperatures_[k];
      const Number w = fuse ? static_cast<Number>(work.weights[k]) : Number(0);
      if (!fuse) {
        sink(k, modality_block<E, Fuse::none>(x, count, t, w, buffer));
      } else if (first) {
        sink(k, modality_block<E, Fuse::first>(x, count, t, w, buffer));
      } else {
        sink(k, modality_block<E, Fuse::later>(x, count, t, w, buffer));
      }
      first = false;
    }
    if (fuse) sink(in_.modalities, fused_block(buffer, count));
  }

  template <class Number>
  RLMBA_INLINE void add_up(std::int64_t i, const Work& work, bool fuse) const {
    for (std::int64_t start = 0; start < classes_; start += kBlockColumns) {
      const std::int64_t left = classes_ - start;
      const std::int64_t count = left < kBlockColumns ? left : kBlockColumns;
      block<Number>(i, start, count, work, fuse, [&](std::int64_t k, const auto& sums) {
        add_block(start, sums.total(), work.sums[k]);
      });
    }
  }

  RLMBA_INLINE static void add_block(std::int64_t start, const Symmetric& block, Symmetric& total) {
    if (start == 0) {
      total = block;
    } else {
      total.merge(block.e1, block.e2);
    }
  }

  // Sums in this range are not NaN, did not overflow and did not lose small terms.
  RLMBA_INLINE bool within(std::int64_t i, const Symmetric* sums, bool fuse, double high,
                           double low) const {
    bool good = true;
    for (std::int64_t k = 0; k < in_.modalities; ++k) {
      if (!absent(i, k)) good &= sums[k].e1 < high && sums[k].e2 > low;
    }
    if (fuse) good &= sums[in_.modalities].e1 < high && sums[in_.modalities].e2 > low;
    return good;
  }

  RLMBA_INLINE double alpha_at(std::int64_t i, std::int64_t k, std::int64_t c) const {
    return static_cast<double>(E::kBase) +
           E::apply(static_cast<double>(in_.x[k].row(i)[c]), temperatures_[k]);
  }

  // For rows out of range or with an invalid number: alpha relative to its largest value.
  __attribute__((noinline)) bool careful_row(std::int64_t i, const double* weights, T* modality,
                                             T* fused) const {
    const std::int64_t m = in_.modalities;
    for (std::int64_t k = 0; k < m; ++k) {
      if (absent(i, k)) continue;
      const T* x = in_.x[k].row(i);
      for (std::int64_t c = 0; c < classes_; ++c) {
        if (!(x[c] - x[c] == T(0)) || (E::kBase == 0.0f && !(x[c] > T(0)))) return false;
      }
    }
    for (std::int64_t k = 0; k < m; ++k) {
      const auto alpha = [&](std::int64_t c) { return alpha_at(i, k, c); };
      modality[k] = absent(i, k) ? T(0) : static_cast<T>(relative_variance(alpha));
    }
    if (fused == nullptr) return true;
    const auto alpha = [&](std::int64_t c) {
      double a = static_cast<double>(E::kBase);
      for (std::int64_t k = 0; k < m; ++k) {
        if (weights[k] > 0) a += weights[k] * (alpha_at(i, k, c) - static_cast<double>(E::kBase));
      }
      return a;
    };
    *fused = static_cast<T>(relative_variance(alpha));
    return true;
  }

  // alpha beyond double's range gives 0, since the exact value is below 1e-307.
  template <class Alpha>
  double relative_variance(const Alpha& alpha) const {
    double largest = 0;
    for (std::int64_t c = 0; c < classes_; ++c) {
      const double a = alpha(c);
      if (a > largest) largest = a;
    }
    if (largest - largest != 0) return 0;
    Symmetric sums;
    for (std::int64_t c = 0; c < classes_; ++c) sums.merge(alpha(c) / largest, 0);
    return 2 * sums.e2 / (sums.e1 * sums.e1) / (sums.e1 * largest + 1) /
           static_cast<double>(classes_);
  }

  DirichletInput<T> in_;
  const Temperature* temperatures_;
  std::int64_t classes_;
};

}  // namespace rlmba::RLMBA_ISA
#endif
