#pragma once

#include "rlmba/dirichlet_variance.hpp"
#include "rlmba/evidence.hpp"

#ifdef RLMBA_ISA

// The sums of Eq 4 over a block of columns of one row.
//
// sum_c Var[p_c] = (1 - sum_c p_c^2) / (alpha_0 + 1) and 1 - sum_c p_c^2 = 2 e2 / e1^2, where e1 =
// sum_c alpha_c and e2 = sum_{b < c} alpha_b alpha_c. Both are sums of positive terms, updated by
// e2 += alpha e1, e1 += alpha, so nothing cancels even for a row that is nearly certain.
namespace rlmba::RLMBA_ISA {

// Columns per block. Their fused alpha stays in the first-level cache, and float sums stay short.
inline constexpr std::int64_t kBlockColumns = 1024;

struct Symmetric {
  double e1 = 0;
  double e2 = 0;

  RLMBA_INLINE void merge(double other1, double other2) {
    e2 += other2 + e1 * other1;
    e1 += other1;
  }
  RLMBA_INLINE const Symmetric& total() const { return *this; }
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
  RLMBA_INLINE Symmetric total() const {
    VectorSums sums = *this;
    if constexpr (kLanes > 8) sums.fold<8>();
    if constexpr (kLanes > 4) sums.fold<4>();
    sums.fold<2>();
    sums.fold<1>();
    return {sums.e1[0], sums.e2[0]};
  }
};

// Folds rows j and j + Step into j for each j < Step; lane l then belongs to row j or, where the
// bit Step of l is set, to row j + Step.
template <int Step>
RLMBA_INLINE void fold_rows(VectorSums* rows) {
  IntVec low;
  IntVec high;
  for (int l = 0; l < kLanes; ++l) {
    low[l] = l & Step ? (l ^ Step) + kLanes : l;
    high[l] = l & Step ? l + kLanes : l ^ Step;
  }
  for (int j = 0; j < Step; ++j) {
    const VectorSums& a = rows[j];
    const VectorSums& b = rows[j + Step];
    const FloatVec e1 = __builtin_shuffle(a.e1, b.e1, low);
    const FloatVec other1 = __builtin_shuffle(a.e1, b.e1, high);
    const FloatVec e2 = __builtin_shuffle(a.e2, b.e2, low) + __builtin_shuffle(a.e2, b.e2, high);
    rows[j] = {e1 + other1, fma(e1, other1, e2)};
  }
}

// Totals of kLanes rows at once: lane r of rows[0] becomes the total of row r. This is much cheaper
// than one row at a time, where dependent steps stall the next row.
RLMBA_INLINE void fold_all_rows(VectorSums* rows) {
  if constexpr (kLanes > 8) fold_rows<8>(rows);
  if constexpr (kLanes > 4) fold_rows<4>(rows);
  fold_rows<2>(rows);
  fold_rows<1>(rows);
}

template <int K>
struct Width {};

// How the fused alpha of a block is updated while a modality is read.
enum class Fuse { none, first, later };

// Vectors processed at the same time, as many as there are registers.
inline constexpr int kPack = kLanes / 2;

// Prefetches memory 4 KiB ahead, because the arithmetic is too long for loads to run ahead by
// themselves. The address may be beyond the matrix, where a prefetch is harmless; it is therefore
// computed as an integer.
RLMBA_INLINE void prefetch_ahead(const float* x) {
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(x) + 4096));
}

// Adds K vectors at x, the last with `last` valid lanes, and updates the fused alpha.
template <class E, Fuse F, int K>
RLMBA_INLINE void modality_pack(const float* x, std::int64_t last, const Temperature& t,
                                FloatVec weight, float* fused, VectorSums& sums, FloatVec& probe) {
  const IntVec mask = first_lanes(last);
  FloatVec v[K];
  FloatVec e[K];
  for (int k = 0; k < K; ++k) prefetch_ahead(x + k * kLanes);
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
RLMBA_INLINE VectorSums modality_block(const float* x, std::int64_t count, const Temperature& t,
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
    case 1:
      rest(Width<1>{});
      break;
    case 2:
      rest(Width<2>{});
      break;
    case 3:
      rest(Width<3>{});
      break;
    case 4:
      rest(Width<4>{});
      break;
    case 5:
      rest(Width<5>{});
      break;
    case 6:
      rest(Width<6>{});
      break;
    case 7:
      rest(Width<7>{});
      break;
    default:
      rest(Width<8>{});
      break;
  }
  if constexpr (E::kProbe) sums.e1 += probe;
  return sums;
}

RLMBA_INLINE VectorSums fused_block(const float* fused, std::int64_t count) {
  VectorSums sums;
  std::int64_t j = 0;
  for (; j + kLanes <= count; j += kLanes) sums.add(load(fused + j));
  if (j < count) sums.add(keep(load(fused + j), first_lanes(count - j)));
  return sums;
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

// Weights of row i [M], renormalized over the modalities that it has.
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

}  // namespace rlmba::RLMBA_ISA
#endif
