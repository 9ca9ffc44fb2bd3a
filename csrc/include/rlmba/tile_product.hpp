#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

#include "rlmba/view.hpp"

#if defined(RLMBA_ISA_avx512) || defined(RLMBA_ISA_avx2)
#include <immintrin.h>
#endif

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

// The register tile of a matrix product A B^T. A tile of kRows x kCols results stays in registers
// while kDepth products are added to each; B is packed into panels of kCols interleaved columns,
// and a panel (32 KiB with AVX-512) stays in the first-level cache while the rows of A are
// processed.
#if defined(RLMBA_ISA_avx512)
inline constexpr int kVectorBytes = 64;
inline constexpr int kTileRows = 14;
#elif defined(RLMBA_ISA_avx2)
inline constexpr int kVectorBytes = 32;
inline constexpr int kTileRows = 6;
#else
inline constexpr int kVectorBytes = 16;
inline constexpr int kTileRows = 6;
#endif

template <class T>
struct Tile {
  typedef T Vector __attribute__((vector_size(kVectorBytes)));
  static constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
  static constexpr int kRows = kTileRows;
  static constexpr int kCols = 2 * kLanes;
  static constexpr std::int64_t kDepth = 256;
  // Not a power of two, so that rows do not map to the same cache sets.
  static constexpr std::int64_t kStride = kDepth + 64 / static_cast<std::int64_t>(sizeof(T));
  static constexpr std::int64_t kSize = static_cast<std::int64_t>(kRows) * kCols;
};

template <class V, class T>
RLMBA_INLINE V load(const T* p) {
  V v;
  std::memcpy(&v, p, sizeof(V));
  return v;
}

template <class V, class T>
RLMBA_INLINE void store(T* p, V v) {
  std::memcpy(p, &v, sizeof(V));
}

// One value from memory in every lane. The compiler can simplify x - 0 to x, but not 0 + x.
template <class V, class T>
RLMBA_INLINE V broadcast(const T* p) {
  return *p - V{};
}

// Whether any lane of v is <= that of bound.
template <class T>
RLMBA_INLINE bool any_at_most(typename Tile<T>::Vector v, typename Tile<T>::Vector bound) {
#if defined(RLMBA_ISA_avx512)
  if constexpr (sizeof(T) == 4)
    return _mm512_cmp_ps_mask(v, bound, _CMP_LE_OQ) != 0;
  else
    return _mm512_cmp_pd_mask(v, bound, _CMP_LE_OQ) != 0;
#elif defined(RLMBA_ISA_avx2)
  if constexpr (sizeof(T) == 4)
    return _mm256_movemask_ps(_mm256_cmp_ps(v, bound, _CMP_LE_OQ)) != 0;
  else
    return _mm256_movemask_pd(_mm256_cmp_pd(v, bound, _CMP_LE_OQ)) != 0;
#else
  bool any = false;
  for (int l = 0; l < Tile<T>::kLanes; ++l) any |= v[l] <= bound[l];
  return any;
#endif
}

// c (kRows x kCols, contiguous) = a b^T, or += where `add`: `depth` products a result, summed in
// order from zero and then added to c, so that the rounding error grows with kDepth, not with the
// full width.
template <class T>
void multiply_tile(const T* a, const T* b, std::int64_t depth, bool add, T* c) {
  using S = Tile<T>;
  using V = typename S::Vector;
  V acc[S::kRows][2];
#pragma GCC unroll 16
  for (int r = 0; r < S::kRows; ++r) acc[r][0] = acc[r][1] = V{};
  for (std::int64_t p = 0; p < depth; ++p) {
    const V b0 = load<V>(b);
    const V b1 = load<V>(b + S::kLanes);
    b += S::kCols;
#pragma GCC unroll 16
    for (int r = 0; r < S::kRows; ++r) {
      const V value = broadcast<V>(a + r * S::kStride + p);
      acc[r][0] += value * b0;
      acc[r][1] += value * b1;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < S::kRows; ++r) {
    T* out = c + r * S::kCols;
    if (add) {
      acc[r][0] += load<V>(out);
      acc[r][1] += load<V>(out + S::kLanes);
    }
    store(out, acc[r][0]);
    store(out + S::kLanes, acc[r][1]);
  }
}

// The product in the input's own precision. Rows of A come in groups of kRows, slices of kDepth
// columns; B in panels of kCols. AmxEngine (amx_product.hpp) has the same interface.
template <class T>
struct VectorEngine {
  using Value = T;
  using S = Tile<T>;
  static constexpr int kRows = S::kRows;
  static constexpr int kCols = S::kCols;
  static constexpr int kLanes = S::kLanes;
  static constexpr std::int64_t kDepth = S::kDepth;
  static constexpr std::int64_t kSize = S::kSize;
  // About a hundred rows, whose slice fits in the second-level cache together with their products.
  static constexpr std::int64_t kGroups = 112 / kRows;
  static constexpr std::int64_t kGroupBytes = kRows * S::kStride * std::int64_t{sizeof(T)};
  static constexpr double kTiny = 4.0 * static_cast<double>(std::numeric_limits<T>::denorm_min());

  static constexpr std::int64_t padded(std::int64_t depth) { return depth; }

  // Products are summed in order within a slice, then over slices; each step may round once.
  static double roundings(std::int64_t dim) {
    const std::int64_t slices = (dim + kDepth - 1) / kDepth;
    return static_cast<double>((dim < kDepth ? dim : kDepth) + slices);
  }

  struct Session {};

  static void pack_row(const T* values, std::int64_t depth, int r, unsigned char* group) {
    std::memcpy(reinterpret_cast<T*>(group) + r * S::kStride, values,
                static_cast<std::size_t>(depth) * sizeof(T));
  }

  static void pack_center(const T* values, std::int64_t depth, int c, unsigned char* panel) {
    T* out = reinterpret_cast<T*>(panel) + c;
    for (std::int64_t p = 0; p < depth; ++p) out[p * kCols] = values[p];
  }

  static void multiply(const unsigned char* a, const unsigned char* b, std::int64_t depth, bool add,
                       T* c) {
    multiply_tile(reinterpret_cast<const T*>(a), reinterpret_cast<const T*>(b), depth, add, c);
  }
};

}  // namespace rlmba::RLMBA_ISA
#endif
