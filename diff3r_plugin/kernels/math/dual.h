// Dual numbers: the primal code, run on them, also gives its directional derivatives.
#pragma once

#include "scalar.h"

namespace diff3r {

// A number and its derivatives along N directions.
template <class S, int N = 1> struct Dual {
    S v;
    S d[N];

    DIFF3R_INLINE Dual() {}
    DIFF3R_INLINE explicit Dual(Real<S> x) : v(x) {
        for (int i = 0; i < N; ++i) d[i] = S(Real<S>(0));
    }
    // The variable that direction `along` moves.
    DIFF3R_INLINE static Dual variable(const S& x, int along) {
        Dual r;
        r.v = x;
        for (int i = 0; i < N; ++i) r.d[i] = S(Real<S>(i == along ? 1 : 0));
        return r;
    }
    DIFF3R_INLINE static Dual with_tangent(const S& x, const S& tangent) {
        static_assert(N == 1, "one tangent for one direction");
        Dual r;
        r.v = x;
        r.d[0] = tangent;
        return r;
    }
};

template <class S, int N> struct RealOf<Dual<S, N>> { using type = Real<S>; };
template <class S, int N> struct MaskTrait<Dual<S, N>> { using type = MaskOf<S>; };

// One operator: the value, and the derivative of each direction i.
#define DIFF3R_DUAL(SIGNATURE, VALUE, DERIVATIVE)                  \
    template <class S, int N> DIFF3R_INLINE Dual<S, N> SIGNATURE { \
        Dual<S, N> r;                                              \
        r.v = VALUE;                                               \
        for (int i = 0; i < N; ++i) r.d[i] = DERIVATIVE;           \
        return r;                                                  \
    }
#define D_ const Dual<S, N>&
#define R_ Real<S>
DIFF3R_DUAL(operator-(D_ a), -a.v, -a.d[i])
DIFF3R_DUAL(operator+(D_ a, D_ b), a.v + b.v, a.d[i] + b.d[i])
DIFF3R_DUAL(operator-(D_ a, D_ b), a.v - b.v, a.d[i] - b.d[i])
DIFF3R_DUAL(operator*(D_ a, D_ b), a.v* b.v, a.d[i] * b.v + a.v * b.d[i])
DIFF3R_DUAL(operator/(D_ a, D_ b), a.v / b.v, (a.d[i] - r.v * b.d[i]) / b.v)
DIFF3R_DUAL(operator+(D_ a, R_ b), a.v + b, a.d[i])
DIFF3R_DUAL(operator+(R_ a, D_ b), a + b.v, b.d[i])
DIFF3R_DUAL(operator-(D_ a, R_ b), a.v - b, a.d[i])
DIFF3R_DUAL(operator-(R_ a, D_ b), a - b.v, -b.d[i])
DIFF3R_DUAL(operator*(D_ a, R_ b), a.v* b, a.d[i] * b)
DIFF3R_DUAL(operator*(R_ a, D_ b), a* b.v, a* b.d[i])
DIFF3R_DUAL(operator/(R_ a, D_ b), a / b.v, -(r.v * b.d[i]) / b.v)
DIFF3R_DUAL(exponential(D_ a), exponential(a.v), r.v* a.d[i])
DIFF3R_DUAL(square_root(D_ a), square_root(a.v), a.d[i] / (r.v + r.v))
#undef D_
#undef R_
#undef DIFF3R_DUAL

template <class S, int N> DIFF3R_INLINE auto value(const Dual<S, N>& x) -> decltype(value(x.v)) { return value(x.v); }

template <class S, int N>
DIFF3R_INLINE Dual<S, N> select(const MaskOf<S>& m, const Dual<S, N>& a, const Dual<S, N>& b) {
    Dual<S, N> r;
    r.v = select(m, a.v, b.v);
    for (int i = 0; i < N; ++i) r.d[i] = select(m, a.d[i], b.d[i]);
    return r;
}

}  // namespace diff3r
