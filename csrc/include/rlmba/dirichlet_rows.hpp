#pragma once

#include "rlmba/dirichlet_variance.hpp"
#include "rlmba/evidence.hpp"

#ifdef RLMBA_ISA

// One row of Eq 3 and Eq 4 for all modalities, each number read once.
//
// sum_c Var[p_c] = (1 - sum_c p_c^2) / (alpha_0 + 1) and 1 - sum_c p_c^2 = 2 e2 / e1^2, where
// e1 = sum_c alpha_c and e2 = sum_{b < c} alpha_b alpha_c. Both are sums of positive terms, updated
// by e2 += alpha e1, e1 += alpha: nothing cancels, however confident the row.
namespace rlmba::RLMBA_ISA {

// Columns worked on at a time: their fused alpha stays in the first-level cache, and sums of float
// stay short.
inline constexpr std::int64_t kBlockColumns = 1024;

struct Symmetric {
  double e1 = 0;
  double e2 = 0;

  RLMBA_INLINE void merge(double other1, double other2) {
    e2 += other2 + e1 * other1;
    e1 += other1;
  }
  RLMBA_INLINE double variance(std::int64_t classes) const {
    return 2 * e2 / (e1 * e1 * (e1 + 1) * static_cast<double>(classes));
  }
};

struct VectorSums {
  FloatVec e1{};
  FloatVec e2{};

  RLMBA_INLINE void add(FloatVec alpha) {
    e2 = fma(alpha, e1, e2);
    e1 += alpha;
  }
  template <int Step>
  RLMBA_INLINE void fold() {
    const FloatVec other1 = swap_lanes<Step>(e1);
    e2 = fma(e1, other1, e2 + swap_lanes<Step>(e2));
    e1 += other1;
  }
  RLMBA_INLINE Symmetric total() {
    if constexpr (kLanes > 8) fold<8>();
    if constexpr (kLanes > 4) fold<4>();
    fold<2>();
    fold<1>();
    return {e1[0], e2[0]};
  }
};

template <int K>
struct Width {};

// What becomes of the fused alpha of a block while a modality is read.
enum class Fuse { none, first, later };

// Vectors worked on side by side, as many as there are registers for.
inline constexpr int kPack = kLanes / 2;

// K vectors at x, the last of which has `last` lanes that count; updates the fused alpha.
template <class E, Fuse F, int K>
RLMBA_INLINE void modality_pack(const float* x, std::int64_t last, const Temperature& t,
                                FloatVec weight, float* fused, VectorSums& sums, FloatVec& probe) {
  const IntVec mask = first_lanes(last);
  FloatVec v[K];
  FloatVec e[K];
  for (int k = 0; k + 1 < K; ++k) v[k] = load(x + k * kLanes);
  v[K - 1] = load_first(x + (K - 1) * kLanes, last, mask);
  E::apply(v, t, e);
  for (int k = 0; k < K; ++k) {
    float* f = fused + k * kLanes;
    if constexpr (F == Fuse::first) store(f, fma(weight, e[k], splat(E::kBase)));
    if constexpr (F == Fuse::later) store(f, fma(weight, e[k], load(f)));
    if constexpr (E::kBase != 0.0f) e[k] = e[k] + E::kBase;
    if (k + 1 == K) e[k] = keep(e[k], mask);
    sums.add(e[k]);
    if constexpr (E::kProbe) {
      const FloatVec p = E::probe(v[k]);
      probe += k + 1 == K ? keep(p, mask) : p;
    }
  }
}

template <class E, Fuse F>
RLMBA_INLINE Symmetric modality_block(const float* x, std::int64_t count, const Temperature& t,
                                      float weight, float* fused) {
  VectorSums sums;
  FloatVec probe{};
  const FloatVec w = splat(weight);
  while (count > kPack * kLanes) {
    modality_pack<E, F, kPack>(x, kLanes, t, w, fused, sums, probe);
    x += kPack * kLanes;
    fused += kPack * kLanes;
    count -= kPack * kLanes;
  }
  const std::int64_t vectors = (count + kLanes - 1) / kLanes;
  const std::int64_t last = count - (vectors - 1) * kLanes;
  const auto rest = [&]<int K>(Width<K>) {
    if constexpr (K <= kPack) modality_pack<E, F, K>(x, last, t, w, fused, sums, probe);
  };
  switch (vectors) {
    case 1: rest(Width<1>{}); break;
    case 2: rest(Width<2>{}); break;
    case 3: rest(Width<3>{}); break;
    case 4: rest(Width<4>{}); break;
    case 5: rest(Width<5>{}); break;
    case 6: rest(Width<6>{}); break;
    case 7: rest(Width<7>{}); break;
    default: rest(Width<8>{}); break;
  }
  if constexpr (E::kProbe) sums.e1 += probe;
  return sums.total();
}

RLMBA_INLINE Symmetric fused_block(const float* fused, std::int64_t count) {
  VectorSums sums;
  std::int64_t j = 0;
  for (; j + kLanes <= count; j += kLanes) sums.add(load(fused + j));
  if (j < count) sums.add(keep(load(fused + j), first_lanes(count - j)));
  return sums.total();
}

template <class E, Fuse F, class T>
RLMBA_INLINE Symmetric modality_block(const T* x, std::int64_t count, const Temperature& t,
                                      double weight, double* fused) {
  Symmetric sums;
  double probe = 0;
  for (std::int64_t j = 0; j < count; ++j) {
    const double v = static_cast<double>(x[j]);
    const double e = E::apply(v, t);
    if constexpr (F == Fuse::first) fused[j] = static_cast<double>(E::kBase) + weight * e;
    if constexpr (F == Fuse::later) fused[j] += weight * e;
    sums.merge(static_cast<double>(E::kBase) + e, 0);
    probe += v * 0;
  }
  return {sums.e1 + probe, sums.e2};
}

RLMBA_INLINE Symmetric fused_block(const double* fused, std::int64_t count) {
  Symmetric sums;
  for (std::int64_t j = 0; j < count; ++j) sums.merge(fused[j], 0);
  return sums;
}

template <class T>
RLMBA_INLINE bool is_absent(const DirichletInput<T>& in, std::int64_t i, std::int64_t k) {
  return in.present != nullptr && !in.present[i * in.modalities + k];
}

// Weights of row i [M]: those given, renormalized over the modalities it has.
template <class T>
RLMBA_INLINE void row_weights(const DirichletInput<T>& in, std::int64_t i, double* w) {
  const double* given = in.weights + i * in.weight_stride;
  double sum = 0;
  std::int64_t count = 0;
  for (std::int64_t k = 0; k < in.modalities; ++k) {
    const bool absent = is_absent(in, i, k);
    w[k] = absent ? 0.0 : given[k];
    sum += w[k];
    count += !absent;
  }
  if (in.present == nullptr) return;
  for (std::int64_t k = 0; k < in.modalities; ++k) {
    if (is_absent(in, i, k)) continue;
    w[k] = sum > 0 ? w[k] / sum : 1.0 / static_cast<double>(count);
  }
}

// Rows of one call: Number is float (vectors) or double (one value at a time, the C library's exp).
template <class T, class E>
class DirichletRows {
 public:
  // `sums` has room for M + 1, `weights` for M; both belong to one thread.
  struct Work {
    Symmetric* sums;
    double* weights;
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

 private:
  RLMBA_INLINE bool absent(std::int64_t i, std::int64_t k) const { return is_absent(in_, i, k); }

  template <class Number>
  RLMBA_INLINE void add_up(std::int64_t i, const Work& work, bool fuse) const {
    alignas(64) Number buffer[kBlockColumns];
    const std::int64_t m = in_.modalities;
    for (std::int64_t start = 0; start < classes_; start += kBlockColumns) {
      const std::int64_t left = classes_ - start;
      const std::int64_t count = left < kBlockColumns ? left : kBlockColumns;
      bool first = true;
      for (std::int64_t k = 0; k < m; ++k) {
        if (absent(i, k)) continue;
        const T* x = in_.x[k].row(i) + start;
        const Temperature& t = temperatures_[k];
        const Number w = fuse ? static_cast<Number>(work.weights[k]) : Number(0);
        Symmetric sums;
        if (!fuse) {
          sums = modality_block<E, Fuse::none>(x, count, t, w, buffer);
        } else if (first) {
          sums = modality_block<E, Fuse::first>(x, count, t, w, buffer);
        } else {
          sums = modality_block<E, Fuse::later>(x, count, t, w, buffer);
        }
        first = false;
        add_block(start, sums, work.sums[k]);
      }
      if (fuse) add_block(start, fused_block(buffer, count), work.sums[m]);
    }
  }

  // The first block is assigned: clearing the sums of every row would cost more than it looks.
  RLMBA_INLINE static void add_block(std::int64_t start, const Symmetric& block, Symmetric& total) {
    if (start == 0) {
      total = block;
    } else {
      total.merge(block.e1, block.e2);
    }
  }

  // Sums in this range neither overflowed nor lost small parts on the way, and are no NaN.
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

  // For rows out of range or with a number that is not valid: alpha relative to its largest.
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

  // alpha beyond double's range gives 0: the limit, and what the exact value, < 1e-307, rounds to.
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
