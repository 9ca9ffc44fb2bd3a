#pragma once

#include <cstdint>

#include "rlmba/tile_product.hpp"

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

// Sum of (a - scale b)^2 in double precision, where the scale is a power of two, so that the
// product is exact. Lane l of 16 sums the elements i with i mod 16 = l, for every instruction set,
// so that all of them agree (except that the generic set has no fused multiply-add on x86).
template <class T>
RLMBA_INLINE double scaled_squared_distance(const T* a, const T* b, double scale,
                                            std::int64_t dim) {
  constexpr int kLanes = 16;
  constexpr int kWidth = kVectorBytes / static_cast<int>(sizeof(double));
  constexpr int kVectors = kLanes / kWidth;
  typedef double Wide __attribute__((vector_size(kVectorBytes)));
  typedef T Narrow __attribute__((vector_size(kWidth * sizeof(T))));
  Wide acc[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) acc[v] = Wide{};
  const auto step = [&](const T* p, const T* q) __attribute__((always_inline)) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const Wide d = __builtin_convertvector(load<Narrow>(p + v * kWidth), Wide) -
                     scale * __builtin_convertvector(load<Narrow>(q + v * kWidth), Wide);
      acc[v] += d * d;
    }
  };
  std::int64_t i = 0;
  for (; i + kLanes <= dim; i += kLanes) step(a + i, b + i);
  if (i < dim) {
    T p[kLanes] = {};
    T q[kLanes] = {};
    for (int l = 0; i + l < dim; ++l) {
      p[l] = a[i + l];
      q[l] = b[i + l];
    }
    step(p, q);
  }
  double lanes[kLanes];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) store(lanes + v * kWidth, acc[v]);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}

// Sum of (a - b)^2, likewise.
template <class T>
double squared_distance(const T* a, const T* b, std::int64_t dim) {
  return scaled_squared_distance(a, b, 1.0, dim);
}

}  // namespace rlmba::RLMBA_ISA
#endif
