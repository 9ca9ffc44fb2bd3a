#pragma once

#include "rlmba/simd.hpp"

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

// Vectors of double as wide as a FloatVec, and exp and log of them to about one unit in the last
// place. Results of the generic set, which has no fused multiply-add on x86, may differ by such
// units.
inline constexpr int kWide = kLanes / 2;

typedef double DoubleVec __attribute__((vector_size(kWide * sizeof(double))));
typedef std::int64_t LongVec __attribute__((vector_size(kWide * sizeof(double))));

RLMBA_INLINE DoubleVec wide(double x) { return DoubleVec{} + x; }

RLMBA_INLINE DoubleVec load_wide(const double* p) {
  DoubleVec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

RLMBA_INLINE DoubleVec load_wide(const float* p) {
  typedef float HalfVec __attribute__((vector_size(kWide * sizeof(float))));
  HalfVec v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, DoubleVec);
}

RLMBA_INLINE void store_wide(double* p, DoubleVec v) { std::memcpy(p, &v, sizeof v); }

RLMBA_INLINE LongVec wide_iota() {
  LongVec iota;
  for (int i = 0; i < kWide; ++i) iota[i] = i;
  return iota;
}

// The first `count` < kWide values at p, the rest `fill`; reads nothing beyond them.
template <class T>
RLMBA_INLINE DoubleVec load_wide_first(const T* p, std::int64_t count, double fill) {
  DoubleVec v = wide(fill);
#if defined(RLMBA_ISA_avx512)
  const __mmask8 mask = static_cast<__mmask8>((1u << count) - 1u);
  if constexpr (sizeof(T) == sizeof(float)) {
    v = _mm512_mask_cvtps_pd(v, mask, _mm256_maskz_loadu_ps(mask, p));
  } else {
    v = _mm512_mask_loadu_pd(v, mask, p);
  }
#else
  for (std::int64_t i = 0; i < count; ++i) v[i] = static_cast<double>(p[i]);
#endif
  return v;
}

// The `count` >= 1 values at p, as many as fit; missing values are `fill`.
template <class T>
RLMBA_INLINE DoubleVec load_wide_up_to(const T* p, std::int64_t count, double fill) {
  return count >= kWide ? load_wide(p) : load_wide_first(p, count, fill);
}

RLMBA_INLINE DoubleVec fma(DoubleVec a, DoubleVec b, DoubleVec c) {
#if defined(RLMBA_ISA_avx512)
  return _mm512_fmadd_pd(a, b, c);
#elif defined(RLMBA_ISA_avx2)
  return _mm256_fmadd_pd(a, b, c);
#else
  return a * b + c;
#endif
}

// a > b ? a : b: the second where one is NaN.
RLMBA_INLINE DoubleVec max(DoubleVec a, DoubleVec b) {
#if defined(RLMBA_ISA_avx512)
  return _mm512_maskz_max_pd(0xFF, a, b);
#elif defined(RLMBA_ISA_avx2)
  return _mm256_max_pd(a, b);
#else
  return a > b ? a : b;
#endif
}

// a < b ? a : b: the second where one is NaN.
RLMBA_INLINE DoubleVec min(DoubleVec a, DoubleVec b) {
#if defined(RLMBA_ISA_avx512)
  return _mm512_maskz_min_pd(0xFF, a, b);
#elif defined(RLMBA_ISA_avx2)
  return _mm256_min_pd(a, b);
#else
  return a < b ? a : b;
#endif
}

// The order depends only on the width.
RLMBA_INLINE double sum_of(DoubleVec v) {
  double lanes[kWide];
  store_wide(lanes, v);
  for (int half = kWide / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}

template <int K>
RLMBA_INLINE void horner(DoubleVec (&p)[K], const DoubleVec (&x)[K], double c) {
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) p[k] = fma(p[k], x[k], wide(c));
}

// log(2) in two parts; a whole number up to 2^20 times the first is exact.
inline constexpr double kLog2High = 0x1.62e42feep-1;
inline constexpr double kLog2Low = 0x1.a39ef35793c76p-33;

// p = exp(x): exactly 1 at 0, 0 below -708 (where double's full precision ends), exp(709) above
// 709; anything for NaN.
//
// x = n log(2) + r with n whole and |r| <= log(2) / 2; exp(r) = 1 + r + r^2 q(r), q interpolated in
// Chebyshev's points (relative error 1.6e-17).
template <int K>
RLMBA_INLINE void exp_wide(const DoubleVec (&x)[K], DoubleVec (&p)[K]) {
  // Adding 1.5 * 2^52 rounds to whole numbers, because the last bit of such a double is worth one.
  const DoubleVec magic = wide(0x1.8p52);
  DoubleVec r[K];
  DoubleVec shifted[K];
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
    const DoubleVec v = min(max(x[k], wide(-708.0)), wide(709.0));
    shifted[k] = fma(v, wide(0x1.71547652b82fep+0), magic);
    const DoubleVec n = shifted[k] - magic;
    r[k] = fma(n, wide(-kLog2Low), fma(n, wide(-kLog2High), v));
    p[k] = wide(2.5100424157005067e-08);
  }
  horner(p, r, 2.7620138719733994e-07);
  horner(p, r, 2.7557268378684192e-06);
  horner(p, r, 2.480152119021773e-05);
  horner(p, r, 0.00019841269863105968);
  horner(p, r, 0.0013888888917281794);
  horner(p, r, 0.008333333333330051);
  horner(p, r, 0.04166666666662399);
  horner(p, r, 0.16666666666666669);
  horner(p, r, 0.5);
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
    p[k] = fma(p[k] * r[k], r[k], r[k]) + 1.0;
    // The low bits of `shifted` hold n: added to the exponent field of p.
    p[k] = (DoubleVec)((LongVec)p[k] + ((LongVec)shifted[k] << 52));
    p[k] = (DoubleVec)((LongVec)p[k] & (LongVec)(x[k] >= wide(-708.0)));
  }
}

// p = log(1 + e) for e > -1, accurate relative to the result also near 0; log(2^-1022) for e <= -1.
//
// 1 + e = 2^n (1 + f) within [sqrt(1/2), sqrt(2)); with s = f / (2 + f), z = s^2,
// log(1 + f) = 2 s (1 + z R(z)), R interpolated in Chebyshev's points (relative error 4.7e-18).
template <int K>
RLMBA_INLINE void log1p_wide(const DoubleVec (&e)[K], DoubleVec (&p)[K]) {
  const LongVec root = LongVec{} + 0x3fe6a09e667f3bcd;  // sqrt(1/2)
  const LongVec one = LongVec{} + 0x3ff0000000000000;
  typedef std::uint64_t Bits __attribute__((vector_size(sizeof(LongVec))));
  DoubleVec n[K];
  DoubleVec s[K];
  DoubleVec z[K];
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
    const LongVec u = (LongVec)max(e[k] + 1.0, wide(0x1p-1022));
    const LongVec biased = (LongVec)((Bits)(u + (one - root)) >> 52);  // n + 1023
    // 2^52 + n + 1023 as a double has n + 1023 in its low bits.
    n[k] = (DoubleVec)(biased + 0x4330000000000000) - (0x1p52 + 1023.0);
    const DoubleVec m = (DoubleVec)(u - ((biased - 1023) << 52));
    const DoubleVec f = n[k] == 0.0 ? e[k] : m - 1.0;
    s[k] = f / (f + 2.0);
    z[k] = s[k] * s[k];
    p[k] = wide(0.0730856419990365);
  }
  horner(p, z, 0.07665833338298587);
  horner(p, z, 0.09091445389013066);
  horner(p, z, 0.11111105556052474);
  horner(p, z, 0.1428571431305726);
  horner(p, z, 0.199999999999496);
  horner(p, z, 0.3333333333333335);
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
    const DoubleVec twice = s[k] + s[k];
    const DoubleVec rest = fma(twice * z[k], p[k], n[k] * kLog2Low);
    p[k] = fma(n[k], wide(kLog2High), twice + rest);
  }
}

}  // namespace rlmba::RLMBA_ISA
#endif
