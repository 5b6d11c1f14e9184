// SIMD lanes as a number: Pack<float> and Pack<double> fill one vector register and have the operations of scalar.h.
// Built on the vector extensions of GCC and Clang, which lower to whatever the machine has; with AVX-512 the masks
// are mask registers.
#pragma once

#include <cstdint>
#include <cstring>

#include "math/scalar.h"

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>
#define DIFF3R_VECTOR_BYTES 64
#define DIFF3R_MASK_REGISTERS 1
#elif defined(__AVX__)
#define DIFF3R_VECTOR_BYTES 32
#else
#define DIFF3R_VECTOR_BYTES 16
#endif
#define DIFF3R_DOUBLE_BYTES (DIFF3R_VECTOR_BYTES < 32 ? 32 : DIFF3R_VECTOR_BYTES)  // at least four lanes

namespace diff3r {

template <class T> struct Lanes;
template <> struct Lanes<float> {
    static constexpr int count = DIFF3R_VECTOR_BYTES / 4;
    typedef float Values __attribute__((vector_size(DIFF3R_VECTOR_BYTES)));
    typedef int32_t Bits __attribute__((vector_size(DIFF3R_VECTOR_BYTES)));
};
template <> struct Lanes<double> {
    static constexpr int count = DIFF3R_DOUBLE_BYTES / 8;
    typedef double Values __attribute__((vector_size(DIFF3R_DOUBLE_BYTES)));
    typedef int64_t Bits __attribute__((vector_size(DIFF3R_DOUBLE_BYTES)));
};

template <class T> struct Pack {
    static constexpr int lanes = Lanes<T>::count;
    using Values = typename Lanes<T>::Values;
    Values v;

    DIFF3R_INLINE Pack() {}
    // Spelled out, or GCC copies arrays of packs by halves, and a whole register read from two stores waits for both.
    DIFF3R_INLINE Pack(const Pack& x) : v(x.v) {}
    DIFF3R_INLINE Pack& operator=(const Pack& x) {
        v = x.v;
        return *this;
    }
    DIFF3R_INLINE Pack(T x) : v(x - Values{}) {}  // x in every lane (x - 0 keeps the sign of zero)
    DIFF3R_INLINE static Pack of(Values v) {
        Pack r;
        r.v = v;
        return r;
    }
    DIFF3R_INLINE static Pack load(const T* p) {
        Pack r;
        std::memcpy(&r.v, p, sizeof(Values));
        return r;
    }
    DIFF3R_INLINE void store(T* p) const { std::memcpy(p, &v, sizeof(Values)); }
    DIFF3R_INLINE T operator[](int lane) const { return v[lane]; }
};

template <class T> struct PackMask {
#ifdef DIFF3R_MASK_REGISTERS
    uint32_t bits;
#else
    typename Lanes<T>::Bits bits;
#endif
};

template <class T> struct RealOf<Pack<T>> { using type = T; };
template <class T> struct MaskTrait<Pack<T>> { using type = PackMask<T>; };

#define DIFF3R_PACK_OPERATOR(OP)                                                                                             \
    template <class T> DIFF3R_INLINE Pack<T> operator OP(const Pack<T>& a, const Pack<T>& b) { return Pack<T>::of(a.v OP b.v); } \
    template <class T> DIFF3R_INLINE Pack<T> operator OP(const Pack<T>& a, Real<Pack<T>> b) { return a OP Pack<T>(b); }          \
    template <class T> DIFF3R_INLINE Pack<T> operator OP(Real<Pack<T>> a, const Pack<T>& b) { return Pack<T>(a) OP b; }
DIFF3R_PACK_OPERATOR(+)
DIFF3R_PACK_OPERATOR(-)
DIFF3R_PACK_OPERATOR(*)
DIFF3R_PACK_OPERATOR(/)
#undef DIFF3R_PACK_OPERATOR
template <class T> DIFF3R_INLINE Pack<T> operator-(const Pack<T>& a) { return Pack<T>::of(-a.v); }
template <class T> DIFF3R_INLINE Pack<T>& operator+=(Pack<T>& a, const Pack<T>& b) {
    a.v += b.v;
    return a;
}
template <class T> DIFF3R_INLINE const Pack<T>& value(const Pack<T>& x) { return x; }

#ifdef DIFF3R_MASK_REGISTERS
#define DIFF3R_COMPARE(OP, CODE)                                                                         \
    DIFF3R_INLINE PackMask<float> operator OP(const Pack<float>& a, const Pack<float>& b) {              \
        return {_mm512_cmp_ps_mask((__m512)a.v, (__m512)b.v, CODE)};                                     \
    }                                                                                                    \
    DIFF3R_INLINE PackMask<double> operator OP(const Pack<double>& a, const Pack<double>& b) {           \
        return {_mm512_cmp_pd_mask((__m512d)a.v, (__m512d)b.v, CODE)};                                   \
    }
DIFF3R_COMPARE(<, _CMP_LT_OQ)
DIFF3R_COMPARE(<=, _CMP_LE_OQ)
DIFF3R_COMPARE(>, _CMP_GT_OQ)
DIFF3R_COMPARE(>=, _CMP_GE_OQ)
DIFF3R_COMPARE(==, _CMP_EQ_OQ)
#undef DIFF3R_COMPARE
DIFF3R_INLINE Pack<float> select(const PackMask<float>& m, const Pack<float>& a, const Pack<float>& b) {
    return Pack<float>::of((Pack<float>::Values)_mm512_mask_blend_ps((__mmask16)m.bits, (__m512)b.v, (__m512)a.v));
}
DIFF3R_INLINE Pack<double> select(const PackMask<double>& m, const Pack<double>& a, const Pack<double>& b) {
    return Pack<double>::of((Pack<double>::Values)_mm512_mask_blend_pd((__mmask8)m.bits, (__m512d)b.v, (__m512d)a.v));
}
// The larger and the smaller of bound and x; NaN if x is.
DIFF3R_INLINE Pack<float> at_least(float bound, const Pack<float>& x) {
    return Pack<float>::of((Pack<float>::Values)_mm512_max_ps(_mm512_set1_ps(bound), (__m512)x.v));
}
DIFF3R_INLINE Pack<float> at_most(float bound, const Pack<float>& x) {
    return Pack<float>::of((Pack<float>::Values)_mm512_min_ps(_mm512_set1_ps(bound), (__m512)x.v));
}
DIFF3R_INLINE Pack<double> at_least(double bound, const Pack<double>& x) {
    return Pack<double>::of((Pack<double>::Values)_mm512_max_pd(_mm512_set1_pd(bound), (__m512d)x.v));
}
DIFF3R_INLINE Pack<double> at_most(double bound, const Pack<double>& x) {
    return Pack<double>::of((Pack<double>::Values)_mm512_min_pd(_mm512_set1_pd(bound), (__m512d)x.v));
}
// The first `count` lanes.
DIFF3R_INLINE void store_first(int count, const Pack<float>& x, float* p) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), (__m512)x.v);
}
DIFF3R_INLINE void store_first(int count, const Pack<double>& x, double* p) {
    _mm512_mask_storeu_pd(p, (__mmask8)((1u << count) - 1), (__m512d)x.v);
}
template <class T> DIFF3R_INLINE bool any(const PackMask<T>& m) { return m.bits != 0; }
template <class T> DIFF3R_INLINE bool lane(const PackMask<T>& m, int i) { return (m.bits >> i) & 1u; }
#else
#define DIFF3R_COMPARE(OP) \
    template <class T> DIFF3R_INLINE PackMask<T> operator OP(const Pack<T>& a, const Pack<T>& b) { return {a.v OP b.v}; }
DIFF3R_COMPARE(<)
DIFF3R_COMPARE(<=)
DIFF3R_COMPARE(>)
DIFF3R_COMPARE(>=)
DIFF3R_COMPARE(==)
#undef DIFF3R_COMPARE
template <class T> DIFF3R_INLINE Pack<T> select(const PackMask<T>& m, const Pack<T>& a, const Pack<T>& b) {
    return Pack<T>::of(m.bits ? a.v : b.v);
}
template <class T> DIFF3R_INLINE Pack<T> at_least(T bound, const Pack<T>& x) {
    return Pack<T>::of(Pack<T>(bound).v > x.v ? Pack<T>(bound).v : x.v);
}
template <class T> DIFF3R_INLINE Pack<T> at_most(T bound, const Pack<T>& x) {
    return Pack<T>::of(Pack<T>(bound).v < x.v ? Pack<T>(bound).v : x.v);
}
template <class T> DIFF3R_INLINE void store_first(int count, const Pack<T>& x, T* p) {
    if (count == Pack<T>::lanes) return x.store(p);
    T all[Pack<T>::lanes];
    x.store(all);
    std::memcpy(p, all, size_t(count) * sizeof(T));
}
template <class T> DIFF3R_INLINE bool any(const PackMask<T>& m) {
    long long seen = 0;
    for (int i = 0; i < Pack<T>::lanes; ++i) seen |= m.bits[i];
    return seen != 0;
}
template <class T> DIFF3R_INLINE bool lane(const PackMask<T>& m, int i) { return m.bits[i] != 0; }
#endif
#define DIFF3R_COMPARE_REAL(OP) \
    template <class T> DIFF3R_INLINE PackMask<T> operator OP(const Pack<T>& a, Real<Pack<T>> b) { return a OP Pack<T>(b); }
DIFF3R_COMPARE_REAL(<)
DIFF3R_COMPARE_REAL(<=)
DIFF3R_COMPARE_REAL(>)
DIFF3R_COMPARE_REAL(>=)
DIFF3R_COMPARE_REAL(==)
#undef DIFF3R_COMPARE_REAL
template <class T> DIFF3R_INLINE PackMask<T> both(const PackMask<T>& a, const PackMask<T>& b) { return {a.bits & b.bits}; }

#ifdef DIFF3R_MASK_REGISTERS
DIFF3R_INLINE Pack<float> square_root(const Pack<float>& x) { return Pack<float>::of((Pack<float>::Values)_mm512_sqrt_ps((__m512)x.v)); }
DIFF3R_INLINE Pack<double> square_root(const Pack<double>& x) { return Pack<double>::of((Pack<double>::Values)_mm512_sqrt_pd((__m512d)x.v)); }
#else
DIFF3R_INLINE Pack<float> square_root(const Pack<float>& x) {
    Pack<float> r;
    for (int i = 0; i < Pack<float>::lanes; ++i) r.v[i] = sqrtf(x.v[i]);
    return r;
}
DIFF3R_INLINE Pack<double> square_root(const Pack<double>& x) {
    Pack<double> r;
    for (int i = 0; i < Pack<double>::lanes; ++i) r.v[i] = sqrt(x.v[i]);
    return r;
}
#endif

// exp by 2^n · exp(r), |r| <= ln(2)/2: n is rounded by adding 1.5·2^(mantissa bits), whose low bits then hold n.
// Polynomials: Chebyshev fit of (exp(r) - 1 - r) / r² for float (1 ulp), Taylor for double (1 ulp).
// Arguments are clamped to the range of normal results; NaN gives NaN.
DIFF3R_INLINE Pack<float> exponential(const Pack<float>& argument) {
    using P = Pack<float>;
    const P x = at_least(-87.0f, at_most(88.0f, argument));
    const P shifted = x * 1.44269504f + 12582912.0f;
    const P n = shifted - 12582912.0f;
    const P r = (x - n * 0.693145751953125f) - n * 1.42860682e-6f;
    const P q = (((r * 0.00139263256f + 0.00836329275f) * r + 0.0416665538f) * r + 0.166665763f) * r + 0.5f;
    const P p = (q * r) * r + r + 1.0f;
    const auto scale = ((Lanes<float>::Bits)shifted.v << 23) + (127 << 23);
    return p * P::of((P::Values)scale);
}
DIFF3R_INLINE Pack<double> exponential(const Pack<double>& argument) {
    using P = Pack<double>;
    const P x = at_least(-708.0, at_most(709.0, argument));
    const P shifted = x * 1.4426950408889634 + 6755399441055744.0;
    const P n = shifted - 6755399441055744.0;
    const P r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    P p = P(1.0 / 6227020800.0);
    const double factors[] = {1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0, 1.0 / 40320.0, 1.0 / 5040.0,
                              1.0 / 720.0,       1.0 / 120.0,      1.0 / 24.0,      1.0 / 6.0,      0.5};
    for (double factor : factors) p = p * r + factor;
    p = (p * r) * r + r + 1.0;
    const auto scale = ((Lanes<double>::Bits)shifted.v << 52) + (int64_t(1023) << 52);
    return p * P::of((P::Values)scale);
}

// Sum of the lanes, always in the same order.
template <class T> DIFF3R_INLINE T sum(const Pack<T>& x) {
    T part[Pack<T>::lanes];
    x.store(part);
    for (int width = Pack<T>::lanes / 2; width; width /= 2)
        for (int i = 0; i < width; ++i) part[i] += part[i + width];
    return part[0];
}

// Lane l is p[l * stride]; lanes from `count` on repeat the last one, so nothing beyond it is read.
template <class T> DIFF3R_INLINE Pack<T> load_strided(const T* p, int64_t stride, int count) {
    Pack<T> r;
    if (count == Pack<T>::lanes)
        for (int i = 0; i < Pack<T>::lanes; ++i) r.v[i] = p[i * stride];
    else
        for (int i = 0; i < Pack<T>::lanes; ++i) r.v[i] = p[(i < count ? i : count - 1) * stride];
    return r;
}
template <class T> DIFF3R_INLINE void store_strided(const Pack<T>& x, T* p, int64_t stride, int count) {
    for (int i = 0; i < count; ++i) p[i * stride] = x.v[i];
}

// Integers as they stand in an array, and as numbers. Not by way of an array of numbers that is filled one by one: a
// register loaded from that waits until all that was stored before has reached the cache.
template <int lanes, class I> struct IntegerLanes {
    typedef I Values __attribute__((vector_size(lanes * sizeof(I))));
};
// The first `count`, and zeros.
template <int lanes, class I> DIFF3R_INLINE typename IntegerLanes<lanes, I>::Values first_of(const I* p, int count) {
    typename IntegerLanes<lanes, I>::Values r{};
    if (count == lanes)
        std::memcpy(&r, p, sizeof(r));
    else
        std::memcpy(&r, p, size_t(count) * sizeof(I));
    return r;
}
template <class T, class Integers> DIFF3R_INLINE Pack<T> converted(const Integers& x) {
    return Pack<T>::of(__builtin_convertvector(x, typename Pack<T>::Values));
}

}  // namespace diff3r
