#pragma once

#include "rlmba/simd.hpp"

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

// 2^y with y = x * (hi + lo), for y within +-125; the sum hi + lo carries a factor in twice
// float's precision. Below, the result is 0 or tiny; above, it is
// large or NaN, and
// infinite x may go unnoticed except on AVX-512, where it gives NaN.
//
// y = n + f with n whole and |f| <= 1/2; 2^f is the minimax polynomial of `Degree` (relative error
// 7.5e-8 for 5, 1.9e-9 for 6), found with Remez's exchange algorithm.
template <int Degree>
RLMBA_INLINE FloatVec exp2_scaled(FloatVec x, FloatVec hi, FloatVec lo) {
  static_assert(Degree == 5 || Degree == 6);
  // Adding 1.5 * 2^23 rounds to whole numbers: there the last bit of a float is worth one.
  const FloatVec magic = splat(12582912.0f);
#if defined(RLMBA_ISA_avx512)
  const FloatVec n = fma(x, hi, magic) - magic;
#else
  const FloatVec shifted = min(max(x * hi, splat(-125.0f)), splat(126.0f)) + magic;
  const FloatVec n = shifted - magic;
#endif
  FloatVec f = fma(x, hi, -n);
  if constexpr (Degree == 6) f = fma(x, lo, f);
#if !defined(RLMBA_ISA_avx512)
  f = min(max(f, splat(-1.0f)), splat(1.0f));
#endif
  FloatVec p;
  if constexpr (Degree == 5) {
    p = splat(1.3276472167819944e-03f);
    p = fma(p, f, splat(9.675541331021392e-03f));
    p = fma(p, f, splat(5.550713272875391e-02f));
    p = fma(p, f, splat(2.4022119723969180e-01f));
    p = fma(p, f, splat(6.931469670652649e-01f));
    p = fma(p, f, splat(1.0000000716546416f));
  } else {
    p = splat(1.5345815812158740e-04f);
    p = fma(p, f, splat(1.3399931209474140e-03f));
    p = fma(p, f, splat(9.618488956522791e-03f));
    p = fma(p, f, splat(5.5503287769976636e-02f));
    p = fma(p, f, splat(2.4022646890639573e-01f));
    p = fma(p, f, splat(6.931472057372526e-01f));
    p = fma(p, f, splat(1.0f));
  }
#if defined(RLMBA_ISA_avx512)
  return _mm512_scalef_ps(p, n);
#else
  // The low bits of `shifted` hold n: added to the exponent field of p.
  return (FloatVec)((IntVec)p + ((IntVec)shifted << 23));
#endif
}

// log(1 + u) for 0 <= u <= 1: minimax polynomial with error 2.3e-8 relative to 1 + log(1 + u). It
// is not accurate relative to log(1 + u) itself near u = 0; its callers add 1.
RLMBA_INLINE FloatVec log1p_unit(FloatVec u) {
  FloatVec p = splat(-6.7103263e-03f);
  p = fma(p, u, splat(3.709715e-02f));
  p = fma(p, u, splat(-9.69318e-02f));
  p = fma(p, u, splat(1.6897099e-01f));
  p = fma(p, u, splat(-2.4132721e-01f));
  p = fma(p, u, splat(3.319416e-01f));
  p = fma(p, u, splat(-4.998903e-01f));
  p = fma(p, u, splat(9.99997e-01f));
  return p * u;
}

}  // namespace rlmba::RLMBA_ISA
#endif
