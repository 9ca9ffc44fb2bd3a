#pragma once

#include "rlmba/simd.hpp"

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

// Functions of K vectors at once. Each is a chain of dependent operations, and only several chains
// in parallel keep the arithmetic units busy.

// p[k] = p[k] * x[k] + c: one step of Horner's scheme.
template <int K>
RLMBA_INLINE void horner(FloatVec (&p)[K], const FloatVec (&x)[K], float c) {
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) p[k] = fma(p[k], x[k], splat(c));
}

// 2^y with y = x * (hi + lo), for y within +-125; the sum hi + lo carries a factor in twice float's
// precision. Below, the result is 0 or tiny; above, it is large or NaN; infinite x may go
// unnoticed.
//
// y = n + f with n whole and |f| <= 1/2; 2^f is the minimax polynomial of `Degree` (relative error
// 7.5e-8 for 5, 1.9e-9 for 6), found with Remez's exchange algorithm.
template <int Degree, int K>
RLMBA_INLINE void exp2_scaled(const FloatVec (&x)[K], FloatVec hi, FloatVec lo, FloatVec (&p)[K]) {
  static_assert(Degree == 5 || Degree == 6);
  // Adding 1.5 * 2^23 rounds to whole numbers, because the last bit of such a float is worth one.
  const FloatVec magic = splat(12582912.0f);
  FloatVec shifted[K];
  FloatVec f[K];
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
#if defined(RLMBA_ISA_avx512)
    shifted[k] = fma(x[k], hi, magic);
#else
    shifted[k] = min(max(x[k] * hi, splat(-125.0f)), splat(126.0f)) + magic;
#endif
  }
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
    f[k] = fma(x[k], hi, magic - shifted[k]);
    if constexpr (Degree == 6) f[k] = fma(x[k], lo, f[k]);
#if !defined(RLMBA_ISA_avx512)
    f[k] = min(max(f[k], splat(-1.0f)), splat(1.0f));
#endif
    p[k] = splat(Degree == 5 ? 1.3276472167819944e-03f : 1.5345815812158740e-04f);
  }
  if constexpr (Degree == 5) {
    horner(p, f, 9.675541331021392e-03f);
    horner(p, f, 5.550713272875391e-02f);
    horner(p, f, 2.4022119723969180e-01f);
    horner(p, f, 6.931469670652649e-01f);
    horner(p, f, 1.0000000716546416f);
  } else {
    horner(p, f, 1.3399931209474140e-03f);
    horner(p, f, 9.618488956522791e-03f);
    horner(p, f, 5.5503287769976636e-02f);
    horner(p, f, 2.4022646890639573e-01f);
    horner(p, f, 6.931472057372526e-01f);
    horner(p, f, 1.0f);
  }
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
#if defined(RLMBA_ISA_avx512)
    // (The form with a mask, of all lanes, because GCC 12 warns about its own unmasked one.)
    p[k] = _mm512_maskz_scalef_ps(0xFFFF, p[k], shifted[k] - magic);
#else
    // The low bits of `shifted` hold n: added to the exponent field of p.
    p[k] = (FloatVec)((IntVec)p[k] + ((IntVec)shifted[k] << 23));
#endif
  }
}

// p = log(1 + u) for 0 <= u <= 1: minimax polynomial with error 2.3e-8 relative to 1 + log(1 + u).
// It is not accurate relative to log(1 + u) itself near u = 0; its callers add 1.
template <int K>
RLMBA_INLINE void log1p_unit(const FloatVec (&u)[K], FloatVec (&p)[K]) {
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) p[k] = splat(-6.7103263e-03f);
  horner(p, u, 3.709715e-02f);
  horner(p, u, -9.69318e-02f);
  horner(p, u, 1.6897099e-01f);
  horner(p, u, -2.4132721e-01f);
  horner(p, u, 3.319416e-01f);
  horner(p, u, -4.998903e-01f);
  horner(p, u, 9.99997e-01f);
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) p[k] = p[k] * u[k];
}

}  // namespace rlmba::RLMBA_ISA
#endif
