// Loops over the lanes of a warp for instructions that treat each lane alone.
#pragma once

#include <type_traits>

#include "machine.h"

namespace ptx {

// Numbers of two bytes and one stand in a word of four.
template <class T> using Cell = std::conditional_t<sizeof(T) >= 4, T, uint32_t>;
template <class T> inline T get(Cell<T> cell) { return T(cell); }
template <class T> inline Cell<T> put(T x) {
    if constexpr (sizeof(T) >= 4)
        return x;
    else
        return uint32_t(std::make_unsigned_t<T>(x));
}

// d = f(lane) on active lanes.
template <class D, class F> inline void assign(Warp& w, const Op& op, F f) {
    Cell<D>* d = w.lanes<Cell<D>>(op.dst);
    const int32_t* on = w.on;
    if (w.active == EVERY_LANE) {
#pragma GCC ivdep
        for (int l = 0; l < LANES; ++l) d[l] = put<D>(f(l));
    } else {
#pragma GCC ivdep
        for (int l = 0; l < LANES; ++l) {
            const Cell<D> x = put<D>(f(l));
            d[l] = on[l] ? x : d[l];
        }
    }
}
template <class D, class F> inline void assign_each(Warp& w, const Op& op, F f) {
    Cell<D>* d = w.lanes<Cell<D>>(op.dst);
    each_lane(w.active, [&](int l) { d[l] = put<D>(f(l)); });
}

// F::of(a), F::of(a, b), F::of(a, b, c): instructions from one type to one.
template <class D, class A, class F> void unary(Warp& w, const Op& op) {
    const Cell<A>* a = w.lanes<Cell<A>>(op.a);
    assign<D>(w, op, [&](int l) { return F::template of<D>(get<A>(a[l])); });
}
template <class D, class A, class F> void unary_each(Warp& w, const Op& op) {
    const Cell<A>* a = w.lanes<Cell<A>>(op.a);
    assign_each<D>(w, op, [&](int l) { return F::template of<D>(get<A>(a[l])); });
}
template <class D, class A, class B, class F> void binary(Warp& w, const Op& op) {
    const Cell<A>* a = w.lanes<Cell<A>>(op.a);
    const Cell<B>* b = w.lanes<Cell<B>>(op.b);
    assign<D>(w, op, [&](int l) { return F::template of<D>(get<A>(a[l]), get<B>(b[l])); });
}
template <class D, class A, class B, class F> void binary_each(Warp& w, const Op& op) {
    const Cell<A>* a = w.lanes<Cell<A>>(op.a);
    const Cell<B>* b = w.lanes<Cell<B>>(op.b);
    assign_each<D>(w, op, [&](int l) { return F::template of<D>(get<A>(a[l]), get<B>(b[l])); });
}
template <class D, class A, class B, class C, class F> void ternary(Warp& w, const Op& op) {
    const Cell<A>* a = w.lanes<Cell<A>>(op.a);
    const Cell<B>* b = w.lanes<Cell<B>>(op.b);
    const Cell<C>* c = w.lanes<Cell<C>>(op.c);
    assign<D>(w, op, [&](int l) { return F::template of<D>(get<A>(a[l]), get<B>(b[l]), get<C>(c[l])); });
}

}  // namespace ptx
