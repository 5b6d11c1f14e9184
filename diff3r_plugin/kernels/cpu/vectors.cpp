// The vector work of conjugate gradients between two products: each vector is read once in a pass, none is copied. Sums are made of partial sums
// over parts of fixed length, added up in order, so they do not depend on the number of threads.
#include <vector>

#include "export.h"
#include "pack.h"
#include "parallel.h"

namespace diff3r {
namespace {

constexpr int64_t PART = 1 << 13;    // unknowns
constexpr int64_t STRETCH = 1 << 7;  // unknowns

// Calls body(system, begin, end, part) for all parts of [B, P], with begin and end counted over both.
template <class Body> void for_each_part(const Diff3rSystems& s, int threads, const Body& body) {
    const int64_t parts = (s.unknowns + PART - 1) / PART;
    parallel_for(s.systems * parts, threads_for(s.systems * s.unknowns, 1 << 15, threads), [&](int64_t task, int) {
        const int64_t system = task / parts, first = task % parts * PART;
        const int64_t last = first + PART < s.unknowns ? first + PART : s.unknowns;
        body(system, system * s.unknowns + first, system * s.unknowns + last, task);
    });
}

// Calls body(from, to) for one stretch of [begin, end) after the other, and asks for what of `arrays` will be wanted two
// stretches later: the processor's own guesses come late where six arrays are read at once.
template <class T, class Body, class... More>
DIFF3R_INLINE void in_stretches(int64_t begin, int64_t end, const Body& body, const T* array, const More*... more) {
    constexpr int64_t line = 64 / int64_t(sizeof(T));
    for (int64_t at = begin; at < end; at += STRETCH) {
        for (int64_t i = at + 2 * STRETCH; i < at + 3 * STRETCH; i += line) {
            __builtin_prefetch(array + i);
            (__builtin_prefetch(more + i), ...);
        }
        body(at, at + STRETCH < end ? at + STRETCH : end);
    }
}

// Two sums for each system, in double from part to part.
template <class T> struct Sums {
    int64_t parts;
    std::vector<double> partial;
    explicit Sums(const Diff3rSystems& s) : parts((s.unknowns + PART - 1) / PART), partial(size_t(2 * s.systems * parts)) {}
    void set(int64_t part, double first, double second) { partial[size_t(2 * part)] = first, partial[size_t(2 * part + 1)] = second; }
    void write(double* out) const {
        for (size_t i = 0; i < partial.size(); ++i) out[2 * (int64_t(i) / (2 * parts)) + int64_t(i % 2)] += partial[i];
    }
};

// Lanes of doubles, which compilers keep in registers: a sum of floats over a whole part would lose digits.
struct Sum {
    double lane[8] = {};
    template <class Term> DIFF3R_INLINE void add(int64_t begin, int64_t end, const Term& term) {
        int64_t i = begin;
        for (; i + 8 <= end; i += 8)
            for (int l = 0; l < 8; ++l) lane[l] += term(i + l);
        for (; i < end; ++i) lane[0] += term(i);
    }
    double total() const { return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7])); }
};

// r · inverse r and r · r; inverse may be null.
template <class T> struct Squares {
    Sum of_inverse, plain;
    const T* inverse;
    DIFF3R_INLINE void add(const T* r, int64_t begin, int64_t end) {
        if (inverse) of_inverse.add(begin, end, [&](int64_t i) { return double(inverse[i]) * double(r[i]) * double(r[i]); });
        plain.add(begin, end, [&](int64_t i) { return double(r[i]) * double(r[i]); });
    }
    void set(Sums<T>& sums, int64_t part) const { sums.set(part, (inverse ? of_inverse : plain).total(), plain.total()); }
};

template <class T>
void advance(const Diff3rSystems& s, int threads, const T* alpha, const T* inverse, const T* Ap, const T* r, T* r_new, double* out) {
    Sums<T> sums(s);
    for_each_part(s, threads, [&](int64_t system, int64_t begin, int64_t end, int64_t part) {
        const T step = alpha[system];
        Squares<T> squares{{}, {}, inverse};
        in_stretches(
            begin, end,
            [&](int64_t from, int64_t to) {
                if (step == T(0))  // a system that has ended takes no step, whatever its product holds
                    for (int64_t i = from; i < to; ++i) r_new[i] = r[i];
                else
                    for (int64_t i = from; i < to; ++i) r_new[i] = r[i] - step * Ap[i];
                squares.add(r_new, from, to);
            },
            r, Ap, r_new, inverse ? inverse : r);
        squares.set(sums, part);
    });
    sums.write(out);
}

template <class T> void measure(const Diff3rSystems& s, int threads, const T* inverse, const T* r, double* out) {
    Sums<T> sums(s);
    for_each_part(s, threads, [&](int64_t, int64_t begin, int64_t end, int64_t part) {
        Squares<T> squares{{}, {}, inverse};
        in_stretches(begin, end, [&](int64_t from, int64_t to) { squares.add(r, from, to); }, r, inverse ? inverse : r);
        squares.set(sums, part);
    });
    sums.write(out);
}

template <class T> DIFF3R_INLINE void step_along(T step, const T* p, int64_t begin, int64_t end, T* x) {
    if (step == T(0)) return;
    for (int64_t i = begin; i < end; ++i) x[i] += step * p[i];
}

template <class T> void step(const Diff3rSystems& s, int threads, const T* alpha, const T* p, T* x) {
    for_each_part(s, threads, [&](int64_t system, int64_t begin, int64_t end, int64_t) {
        in_stretches(begin, end, [&](int64_t from, int64_t to) { step_along(alpha[system], p, from, to, x); }, x, p);
    });
}

template <class T> void follow(const Diff3rSystems& s, int threads, const T* alpha, const T* beta, const T* inverse, const T* r, T* x, T* p) {
    for_each_part(s, threads, [&](int64_t system, int64_t begin, int64_t end, int64_t) {
        const T share = beta[system];
        in_stretches(
            begin, end,
            [&](int64_t from, int64_t to) {
                step_along(alpha[system], p, from, to, x);
                if (share == T(0))
                    for (int64_t i = from; i < to; ++i) p[i] = inverse ? inverse[i] * r[i] : r[i];
                else
                    for (int64_t i = from; i < to; ++i) p[i] = (inverse ? inverse[i] * r[i] : r[i]) + share * p[i];
            },
            x, p, r, inverse ? inverse : r);
    });
}

template <class T> void restore(const Diff3rSystems& s, int threads, const uint8_t* good, const T* r, T* r_new) {
    for_each_part(s, threads, [&](int64_t system, int64_t begin, int64_t end, int64_t) {
        if (good[system]) return;
        for (int64_t i = begin; i < end; ++i) r_new[i] = r[i];
    });
}

// Σ a b and Σ weights (a - b)².
template <class T> void products(const Diff3rSystems& s, int threads, const T* a, const T* b, const T* weights, double* out) {
    Sums<T> sums(s);
    for_each_part(s, threads, [&](int64_t, int64_t begin, int64_t end, int64_t part) {
        Sum sum, weighted;
        const auto add = [&](int64_t from, int64_t to) {
            if (weights)
                weighted.add(from, to, [&](int64_t i) { return double(weights[i]) * (double(a[i]) - double(b[i])) * (double(a[i]) - double(b[i])); });
            else
                sum.add(from, to, [&](int64_t i) { return double(a[i]) * double(b[i]); });
        };
        in_stretches(begin, end, add, a, b, weights ? weights : a);
        sums.set(part, sum.total(), weighted.total());
    });
    sums.write(out);
}

// 1 / (a + b), and 1 where that is not positive.
template <class T> void inverse_sum(const Diff3rSystems& s, int threads, const T* a, const T* b, T* out) {
    for_each_part(s, threads, [&](int64_t, int64_t begin, int64_t end, int64_t) {
        const auto write = [&](int64_t from, int64_t to) {
            for (int64_t i = from; i < to; ++i) {
                const T sum = a[i] + b[i];
                out[i] = T(1) / (sum <= T(0) ? T(1) : sum);
            }
        };
        in_stretches(begin, end, write, a, b, out);
    });
}

}  // namespace
}  // namespace diff3r

using namespace diff3r;

DIFF3R_EXPORT(advance,
              (const Diff3rSystems* s, int32_t threads, const void* alpha, const void* inverse, const void* Ap, const void* r, void* r_new,
               double* sums),
              advance(*s, threads, in<T>(alpha), in<T>(inverse), in<T>(Ap), in<T>(r), out<T>(r_new), sums);
              return DIFF3R_OK;)

DIFF3R_EXPORT(measure, (const Diff3rSystems* s, int32_t threads, const void* inverse, const void* r, double* sums),
              measure(*s, threads, in<T>(inverse), in<T>(r), sums);
              return DIFF3R_OK;)

DIFF3R_EXPORT(step, (const Diff3rSystems* s, int32_t threads, const void* alpha, const void* p, void* x),
              step(*s, threads, in<T>(alpha), in<T>(p), out<T>(x));
              return DIFF3R_OK;)

DIFF3R_EXPORT(follow,
              (const Diff3rSystems* s, int32_t threads, const void* alpha, const void* beta, const void* inverse, const void* r, void* x,
               void* p),
              follow(*s, threads, in<T>(alpha), in<T>(beta), in<T>(inverse), in<T>(r), out<T>(x), out<T>(p));
              return DIFF3R_OK;)

DIFF3R_EXPORT(restore, (const Diff3rSystems* s, int32_t threads, const uint8_t* good, const void* r, void* r_new),
              restore(*s, threads, good, in<T>(r), out<T>(r_new));
              return DIFF3R_OK;)

DIFF3R_EXPORT(inverse_sum, (const Diff3rSystems* s, int32_t threads, const void* a, const void* b, void* inverse),
              inverse_sum(*s, threads, in<T>(a), in<T>(b), out<T>(inverse));
              return DIFF3R_OK;)

DIFF3R_EXPORT(products,
              (const Diff3rSystems* s, int32_t threads, const void* a, const void* b, const void* weights, double* sums),
              products(*s, threads, in<T>(a), in<T>(b), in<T>(weights), sums);
              return DIFF3R_OK;)
