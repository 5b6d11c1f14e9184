// The unknowns θ of one Gaussian and its numbers: every formula of the package coordinates, for the kernels.
//   means       μ = μ₀ + s₀ θ
//   covariance  relative log-Cholesky Σ = L₀ M Mᵀ L₀ᵀ, or scales s₀ exp θ₁₋₃ and the rotation of q₀ (1, θ₄₋₆/2)
//   opacity     o = sigmoid(logit o₀ + θ)
//   harmonics   h = h₀ + θ
// A Gaussian that cannot move has zero derivatives. Symmetric 3x3 matrices are six numbers: xx, xy, xz, yy, yz, zz.
#pragma once

#include "dual.h"
#include "integers.h"
#include "projection.h"
#include "scalar.h"

extern "C" {

// Where the groups of unknowns stand in θ, and what they are relative to.
struct Diff3rChart {
    int64_t unknowns;                                      // of one scene, P
    int64_t means, covariance, opacity, sh_dc, sh_rest;    // first unknown of the group; -1: it does not move
    int64_t kind;                                          // of the covariances' chart, diff3r::CovarianceKind
    const void* theta;                                     // [B, P]
    const void* anchors;                                   // [B, N, 9]; see ANCHOR_NUMBERS
};
}

namespace diff3r {

// The same in numbers of one type.
template <class T> struct Chart {
    int64_t unknowns, means, covariance, opacity, sh_dc, sh_rest;
    int kind;
    const T *theta, *anchors;

    DIFF3R_INLINE explicit Chart(const Diff3rChart& c)
        : unknowns(c.unknowns), means(c.means), covariance(c.covariance), opacity(c.opacity), sh_dc(c.sh_dc), sh_rest(c.sh_rest),
          kind(int(c.kind)), theta(static_cast<const T*>(c.theta)), anchors(static_cast<const T*>(c.anchors)) {}
};

enum CovarianceKind : int { CHOLESKY = 0, SCALES_AND_ROTATION = 1 };

// Movable (1 or 0), own size s₀, and L₀ by rows (11, 21, 22, 31, 32, 33), or three scales and a quaternion wxyz.
constexpr int ANCHOR_NUMBERS = 9;
constexpr double LARGEST_LOGIT = 30.0;  // by which a logit changes; a test compares with coordinates.py

// Lower triangular matrices are six numbers, by rows: 11, 21, 22, 31, 32, 33.
template <class S> DIFF3R_INLINE void multiply_lower(const S* a, const S* b, S* out) {
    out[0] = a[0] * b[0];
    out[1] = a[1] * b[0] + a[2] * b[1];
    out[2] = a[2] * b[2];
    out[3] = a[3] * b[0] + a[4] * b[1] + a[5] * b[3];
    out[4] = a[4] * b[2] + a[5] * b[4];
    out[5] = a[5] * b[5];
}

// a bᵀ for lower triangular a, b: the six entries on and above the diagonal of its symmetric part, times two.
template <class S> DIFF3R_INLINE void twice_symmetric_product(const S* a, const S* b, S* out) {
    using R = Real<S>;
    out[0] = R(2) * (a[0] * b[0]);
    out[1] = a[0] * b[1] + a[1] * b[0];
    out[2] = a[0] * b[3] + a[3] * b[0];
    out[3] = R(2) * (a[1] * b[1] + a[2] * b[2]);
    out[4] = a[1] * b[3] + a[3] * b[1] + a[2] * b[4] + a[4] * b[2];
    out[5] = R(2) * (a[3] * b[3] + a[4] * b[4] + a[5] * b[5]);
}

template <class S> DIFF3R_INLINE void rotation_of(const S* q, S* out) {
    using R = Real<S>;
    const S squared = q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3];
    const auto nonzero = value(squared) > S(R(0));
    const S s = select(nonzero, R(2) / select(nonzero, squared, S(R(1))), S(R(0)));
    const S w = q[0], x = q[1], y = q[2], z = q[3];
    out[0] = R(1) - s * (y * y + z * z), out[1] = s * (x * y - w * z), out[2] = s * (x * z + w * y);
    out[3] = s * (x * y + w * z), out[4] = R(1) - s * (x * x + z * z), out[5] = s * (y * z - w * x);
    out[6] = s * (x * z - w * y), out[7] = s * (y * z + w * x), out[8] = R(1) - s * (x * x + y * y);
}

// q (1, θ/2), not normalized.
template <class S> DIFF3R_INLINE void turned(const S* q, const S* theta, S* out) {
    using R = Real<S>;
    const S x = R(0.5) * theta[0], y = R(0.5) * theta[1], z = R(0.5) * theta[2];
    out[0] = q[0] - (q[1] * x + q[2] * y + q[3] * z);
    out[1] = q[1] + q[0] * x + (q[2] * z - q[3] * y);
    out[2] = q[2] + q[0] * y + (q[3] * x - q[1] * z);
    out[3] = q[3] + q[0] * z + (q[1] * y - q[2] * x);
}

// One Gaussian's chart at one θ: what the covariance's derivative needs, in both directions.
template <class S> struct LocalCovariance {
    int kind;
    S a[9];       // L₀, or the axes as columns of a matrix, by rows
    S b[6];       // L₀ M, or the squared scales and (from 3 on) nothing
    S slope[3];   // of the diagonal of M, or θ₄₋₆ / 2
    S scale;      // 1 / (1 + |θ₄₋₆/2|²)

    DIFF3R_INLINE void set(int kind_, const S* anchor, const S* theta) {
        using R = Real<S>;
        kind = kind_;
        const S zero(R(0));
        if (kind == CHOLESKY) {
            for (int i = 0; i < 6; ++i) a[i] = anchor[2 + i];
            for (int i = 0; i < 3; ++i) slope[i] = exponential(theta[i]);
            const S lower[6] = {slope[0], theta[3], slope[1], theta[4], theta[5], slope[2]};
            multiply_lower(a, lower, b);
        } else {
            S quaternion[4];
            const auto movable = value(anchor[0]) > zero;
            turned(anchor + 5, theta + 3, quaternion);
            rotation_of(quaternion, a);
            scale = S(R(1));
            for (int i = 0; i < 3; ++i) {
                const S now = anchor[2 + i] * exponential(theta[i]);
                b[i] = select(movable, now * now, zero);
                slope[i] = R(0.5) * theta[3 + i];
                scale = scale + slope[i] * slope[i];
            }
            for (int i = 0; i < 9; ++i) a[i] = select(movable, a[i], zero);
            scale = R(1) / scale;
        }
    }

    // dΣ of dθ.
    DIFF3R_INLINE void jvp(const S* tangent, S* out) const {
        using R = Real<S>;
        if (kind == CHOLESKY) {
            const S moved[6] = {slope[0] * tangent[0], tangent[3], slope[1] * tangent[1], tangent[4], tangent[5], slope[2] * tangent[2]};
            S factor[6];
            multiply_lower(a, moved, factor);
            twice_symmetric_product(factor, b, out);
            return;
        }
        // In the body's frame: 2 s² dθ on the diagonal, ω (s² - s²) beside it.
        const S* t = tangent + 3;
        const S turn[3] = {scale * (t[0] + slope[2] * t[1] - slope[1] * t[2]), scale * (t[1] + slope[0] * t[2] - slope[2] * t[0]),
                           scale * (t[2] + slope[1] * t[0] - slope[0] * t[1])};
        const S body[6] = {R(2) * b[0] * tangent[0], turn[2] * (b[0] - b[1]), turn[1] * (b[2] - b[0]),
                           R(2) * b[1] * tangent[1], turn[0] * (b[1] - b[2]), R(2) * b[2] * tangent[2]};
        int entry = 0;
        for (int i = 0; i < 3; ++i) {
            const S* r = a + 3 * i;
            const S row[3] = {r[0] * body[0] + r[1] * body[1] + r[2] * body[2], r[0] * body[1] + r[1] * body[3] + r[2] * body[4],
                              r[0] * body[2] + r[1] * body[4] + r[2] * body[5]};
            for (int j = i; j < 3; ++j) out[entry++] = row[0] * a[3 * j] + row[1] * a[3 * j + 1] + row[2] * a[3 * j + 2];
        }
    }

    // The covariance in the image, by each number of θ: ½ d xx, d xy, ½ d yy. u, w: the image's axes in space, rows of J R.
    DIFF3R_INLINE void image_moves(const S* u, const S* w, S (*out)[3]) const {
        using R = Real<S>;
        if (kind == CHOLESKY) {  // dΣ = L₀ dM (L₀ M)ᵀ and its transpose
            const S au[3] = {a[0] * u[0] + a[1] * u[1] + a[3] * u[2], a[2] * u[1] + a[4] * u[2], a[5] * u[2]};
            const S aw[3] = {a[0] * w[0] + a[1] * w[1] + a[3] * w[2], a[2] * w[1] + a[4] * w[2], a[5] * w[2]};
            const S bu[3] = {b[0] * u[0] + b[1] * u[1] + b[3] * u[2], b[2] * u[1] + b[4] * u[2], b[5] * u[2]};
            const S bw[3] = {b[0] * w[0] + b[1] * w[1] + b[3] * w[2], b[2] * w[1] + b[4] * w[2], b[5] * w[2]};
            constexpr int row[6] = {0, 1, 2, 1, 2, 2}, column[6] = {0, 1, 2, 0, 0, 1};
            DIFF3R_UNROLL
            for (int k = 0; k < 6; ++k) {
                const S one(R(1)), &by = k < 3 ? slope[k] : one;
                const S x = by * au[row[k]], y = by * aw[row[k]];
                out[k][0] = x * bu[column[k]];
                out[k][1] = x * bw[column[k]] + y * bu[column[k]];
                out[k][2] = y * bw[column[k]];
            }
            return;
        }
        S g[3], h[3];  // the image's axes in the body's frame
        for (int i = 0; i < 3; ++i) {
            g[i] = u[0] * a[i] + u[1] * a[3 + i] + u[2] * a[6 + i];
            h[i] = w[0] * a[i] + w[1] * a[3 + i] + w[2] * a[6 + i];
        }
        // A turn about a body axis shears the other two: first and second of each, by the difference of their squares.
        constexpr int first[3] = {1, 2, 0}, second[3] = {2, 0, 1};
        S turns[3][3];
        for (int k = 0; k < 3; ++k) {
            const S by = b[k] * g[k];
            out[k][0] = by * g[k];
            out[k][1] = R(2) * by * h[k];
            out[k][2] = b[k] * h[k] * h[k];
            const int i = first[k], j = second[k];
            const S shear = scale * (b[i] - b[j]);
            turns[k][0] = shear * (g[i] * g[j]);
            turns[k][1] = shear * (g[i] * h[j] + g[j] * h[i]);
            turns[k][2] = shear * (h[i] * h[j]);
        }
        for (int e = 0; e < 3; ++e) {  // by θ₄, θ₅, θ₆: the transpose of what jvp makes turns of
            out[3][e] = turns[0][e] - slope[2] * turns[1][e] + slope[1] * turns[2][e];
            out[4][e] = turns[1][e] - slope[0] * turns[2][e] + slope[2] * turns[0][e];
            out[5][e] = turns[2][e] - slope[1] * turns[0][e] + slope[0] * turns[1][e];
        }
    }

    // The gradient by θ from the full symmetric gradient by Σ.
    DIFF3R_INLINE void vjp(const S* g, S* out) const {
        using R = Real<S>;
        if (kind == CHOLESKY) {
            // Of L₀ M: 2 G (L₀ M), lower triangle; then L₀ᵀ times that.
            S f[6];
            f[0] = R(2) * (g[0] * b[0] + g[1] * b[1] + g[2] * b[3]);
            f[1] = R(2) * (g[1] * b[0] + g[3] * b[1] + g[4] * b[3]);
            f[2] = R(2) * (g[3] * b[2] + g[4] * b[4]);
            f[3] = R(2) * (g[2] * b[0] + g[4] * b[1] + g[5] * b[3]);
            f[4] = R(2) * (g[4] * b[2] + g[5] * b[4]);
            f[5] = R(2) * (g[5] * b[5]);
            out[0] = slope[0] * (a[0] * f[0] + a[1] * f[1] + a[3] * f[3]);
            out[1] = slope[1] * (a[2] * f[2] + a[4] * f[4]);
            out[2] = slope[2] * (a[5] * f[5]);
            out[3] = a[2] * f[1] + a[4] * f[3];
            out[4] = a[5] * f[3];
            out[5] = a[5] * f[4];
            return;
        }
        const S full[9] = {g[0], g[1], g[2], g[1], g[3], g[4], g[2], g[4], g[5]};
        S columns[9], body[6];  // G R by columns of R, then Rᵀ G R
        for (int k = 0; k < 3; ++k)
            for (int i = 0; i < 3; ++i)
                columns[3 * k + i] = full[3 * i] * a[k] + full[3 * i + 1] * a[3 + k] + full[3 * i + 2] * a[6 + k];
        int entry = 0;
        for (int i = 0; i < 3; ++i)
            for (int j = i; j < 3; ++j) body[entry++] = a[i] * columns[3 * j] + a[3 + i] * columns[3 * j + 1] + a[6 + i] * columns[3 * j + 2];
        const int diagonal[3] = {0, 3, 5};
        for (int i = 0; i < 3; ++i) out[i] = R(2) * b[i] * body[diagonal[i]];
        const S two = S(R(2)) * scale;
        const S turn[3] = {two * body[4] * (b[1] - b[2]), two * body[2] * (b[2] - b[0]), two * body[1] * (b[0] - b[1])};
        out[3] = turn[0] - slope[2] * turn[1] + slope[1] * turn[2];
        out[4] = turn[1] - slope[0] * turn[2] + slope[2] * turn[0];
        out[5] = turn[2] - slope[1] * turn[0] + slope[0] * turn[1];
    }
};

// Σ at θ. `reference` is Σ₀; with Cholesky the change is added to it, so that θ = 0 gives back its very digits.
template <class S> DIFF3R_INLINE void covariance_at(int kind, const S* anchor, const S* theta, const S* reference, S* out) {
    using R = Real<S>;
    if (kind == CHOLESKY) {
        LocalCovariance<S> local;
        S now[6], before[6];
        local.set(kind, anchor, theta);
        twice_symmetric_product(local.b, local.b, now);
        twice_symmetric_product(local.a, local.a, before);
        for (int i = 0; i < 6; ++i) out[i] = reference[i] + R(0.5) * (now[i] - before[i]);
        return;
    }
    S quaternion[4], axes[9], own[6];
    const S zero(R(0));
    const auto movable = value(anchor[0]) > zero;
    for (int i = 0; i < 6; ++i) own[i] = select(movable, theta[i], zero);
    turned(anchor + 5, own + 3, quaternion);
    rotation_of(quaternion, axes);
    for (int k = 0; k < 3; ++k) {
        const S size = anchor[2 + k] * exponential(own[k]);
        for (int i = 0; i < 3; ++i) axes[3 * i + k] = axes[3 * i + k] * size;
    }
    int entry = 0;
    for (int i = 0; i < 3; ++i)
        for (int j = i; j < 3; ++j, ++entry)
            out[entry] = axes[3 * i] * axes[3 * j] + axes[3 * i + 1] * axes[3 * j + 1] + axes[3 * i + 2] * axes[3 * j + 2];
}

// d opacity / dθ; zero for opacities of 0 and 1 and what lies beyond.
template <class S> DIFF3R_INLINE S opacity_slope(const S& movable, const S& opacity) {
    using R = Real<S>;
    const S zero(R(0));
    const S slope = opacity * (R(1) - opacity);
    return select(both(value(movable) > zero, value(slope) > zero), slope, zero);
}

// sigmoid(logit o + θ), written so that θ = 0 gives o to the last digit. expm1 from exp: relative to 1 + o (exp θ - 1)
// the lost digits of a small θ are rounding of the result.
template <class S> DIFF3R_INLINE S opacity_at(const S& movable, const S& opacity, const S& theta) {
    using R = Real<S>;
    const S zero = S(R(0)), low = S(R(-LARGEST_LOGIT)), high = S(R(LARGEST_LOGIT));
    const S clamped = select(theta < low, low, select(theta > high, high, theta));
    const S growth = exponential(clamped) - R(1);
    const S slope = opacity_slope(movable, opacity);
    return select(value(slope) > zero, opacity + slope * growth / (R(1) + opacity * growth), opacity);
}

}  // namespace diff3r
