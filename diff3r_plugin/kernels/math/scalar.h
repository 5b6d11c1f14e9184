// The operations that the mathematics asks of a number. Every formula of this renderer is a template over such a
// number S: float and double here, Pack (SIMD lanes of the CPU) in pack.h, Dual (forward mode) in dual.h.
// Conditions are values of type MaskOf<S> and never branches, so that one text serves one splat or sixteen.
#pragma once

#ifndef __CUDACC_RTC__  // which knows these functions without a header
#include <math.h>
#endif

#if defined(__CUDACC__)
#define DIFF3R_INLINE __host__ __device__ __forceinline__
#else
#define DIFF3R_INLINE inline __attribute__((always_inline))
#endif
// On a GPU, small arrays stay in registers only where their indices are constants.
#if defined(__CUDA_ARCH__)
#define DIFF3R_UNROLL _Pragma("unroll")
#else
#define DIFF3R_UNROLL
#endif

namespace diff3r {

// The machine number inside S, in which constants are written: Real<Dual<Pack<float>>> is float.
template <class S> struct RealOf;
template <> struct RealOf<float> { using type = float; };
template <> struct RealOf<double> { using type = double; };
template <class S> using Real = typename RealOf<S>::type;

// What a comparison of two S gives.
template <class S> struct MaskTrait;
template <> struct MaskTrait<float> { using type = bool; };
template <> struct MaskTrait<double> { using type = bool; };
template <class S> using MaskOf = typename MaskTrait<S>::type;

DIFF3R_INLINE bool both(bool a, bool b) { return a && b; }
DIFF3R_INLINE float select(bool m, float a, float b) { return m ? a : b; }
DIFF3R_INLINE double select(bool m, double a, double b) { return m ? a : b; }

// The number without its derivatives; comparisons look at nothing else.
DIFF3R_INLINE float value(float x) { return x; }
DIFF3R_INLINE double value(double x) { return x; }

#if defined(__CUDA_ARCH__)
DIFF3R_INLINE float exponential(float x) { return __expf(x); }  // as gsplat, whose images ours must match
#else
DIFF3R_INLINE float exponential(float x) { return expf(x); }
#endif
DIFF3R_INLINE double exponential(double x) { return exp(x); }
DIFF3R_INLINE float logarithm(float x) { return logf(x); }
DIFF3R_INLINE double logarithm(double x) { return log(x); }
DIFF3R_INLINE float square_root(float x) { return sqrtf(x); }
DIFF3R_INLINE double square_root(double x) { return sqrt(x); }

// x - x is 0 for finite numbers and NaN for the others; true in every S without a library call.
template <class S> DIFF3R_INLINE MaskOf<S> is_finite(const S& x) { return value(x) - value(x) == value(S(Real<S>(0))); }

}  // namespace diff3r
