#pragma once

#include <cstdint>
#include <cstring>

#include "rlmba/view.hpp"

#ifdef RLMBA_ISA

#if defined(RLMBA_ISA_avx512) || defined(RLMBA_ISA_avx2)
#include <immintrin.h>
#endif

// Vectors of float as wide as the instruction set has registers. Arithmetic is GCC's and clang's
// vector extension; only what it cannot express is written per instruction set.
namespace rlmba::RLMBA_ISA {

#if defined(RLMBA_ISA_avx512)
inline constexpr int kLanes = 16;
#elif defined(RLMBA_ISA_avx2)
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif

typedef float FloatVec __attribute__((vector_size(kLanes * sizeof(float))));
typedef std::int32_t IntVec __attribute__((vector_size(kLanes * sizeof(float))));

RLMBA_INLINE FloatVec splat(float x) { return FloatVec{} + x; }

RLMBA_INLINE FloatVec load(const float* p) {
  FloatVec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

RLMBA_INLINE void store(float* p, FloatVec v) { std::memcpy(p, &v, sizeof v); }

// All bits set in the first `count` lanes.
RLMBA_INLINE IntVec first_lanes(std::int64_t count) {
  IntVec iota;
  for (int i = 0; i < kLanes; ++i) iota[i] = i;
  return iota < static_cast<std::int32_t>(count);
}

RLMBA_INLINE FloatVec keep(FloatVec v, IntVec mask) { return (FloatVec)((IntVec)v & mask); }

// The first `count` values at p and zeros; reads nothing beyond them.
RLMBA_INLINE FloatVec load_first(const float* p, std::int64_t count, IntVec mask) {
#if defined(RLMBA_ISA_avx512)
  (void)mask;
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1u), p);
#elif defined(RLMBA_ISA_avx2)
  (void)count;
  return _mm256_maskload_ps(p, (__m256i)mask);
#else
  (void)mask;
  FloatVec v{};
  for (std::int64_t i = 0; i < count; ++i) v[i] = p[i];
  return v;
#endif
}

RLMBA_INLINE FloatVec fma(FloatVec a, FloatVec b, FloatVec c) {
#if defined(RLMBA_ISA_avx512)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(RLMBA_ISA_avx2)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

// A NaN in `b` passes through; one in `a` does not.
RLMBA_INLINE FloatVec max(FloatVec a, FloatVec b) {
#if defined(RLMBA_ISA_avx512)
  // (With a mask, of all lanes, because GCC 12 warns about its own unmasked form.)
  return _mm512_maskz_max_ps(0xFFFF, a, b);
#elif defined(RLMBA_ISA_avx2)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

RLMBA_INLINE FloatVec min(FloatVec a, FloatVec b) {
#if defined(RLMBA_ISA_avx512)
  return _mm512_maskz_min_ps(0xFFFF, a, b);
#elif defined(RLMBA_ISA_avx2)
  return _mm256_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}

RLMBA_INLINE FloatVec negative_magnitude(FloatVec v) {
  const IntVec sign = IntVec{} + static_cast<std::int32_t>(0x80000000u);
  return (FloatVec)((IntVec)v | sign);
}

// Lanes moved by a half, a quarter, ... of the vector: `Step` is a power of two below kLanes.
template <int Step>
RLMBA_INLINE FloatVec swap_lanes(FloatVec v) {
  IntVec from;
  for (int i = 0; i < kLanes; ++i) from[i] = i ^ Step;
  return __builtin_shuffle(v, from);
}

}  // namespace rlmba::RLMBA_ISA
#endif
