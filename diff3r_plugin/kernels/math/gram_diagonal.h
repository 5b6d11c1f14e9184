// The diagonal of Jᵀ W J in θ from ten sums over a splat's pixels, where the whole block needs 34.
//
// A pixel's derivative by a number of the mean is d q + weight · color': d = dI / d ln(alpha), q = d ln(alpha) / d mean, a
// polynomial in dx, dy whose coefficients are known before the pixels are visited. So its square is summed as it is.
#pragma once

#include "splat_chain.h"

namespace diff3r {

// Of each of the mean's three numbers: coefficients of dx, dy, dx², dx dy, dy² in q; then color' by channel and number.
constexpr int MEAN_MOVE = 24;
constexpr int MEAN_COLORS = 15;
constexpr int DIAGONAL_SUMS = 10;  // mean 3 (without what color' alone adds), d² dx^i dy^j of degree four, d², weight²

template <class S> DIFF3R_INLINE void mean_move(const Seen<S>& seen, const Camera<S>& camera, const Projection<S>& p, S* out) {
    using R = Real<S>;
    S rows[5][3];
    for (int r = 0; r < 5; ++r) {
        S seed[5];
        for (int j = 0; j < 5; ++j) seed[j] = S(R(j == r));
        ProjectionCotangent<S> back{};
        project_transposed(seen.mean, camera, p, seed[0], seed[1], seed[2], seed[3], seed[4], false, back);
        for (int j = 0; j < 3; ++j) rows[r][j] = back.mean[j];
    }
    for (int j = 0; j < 3; ++j) {
        out[5 * j] = p.a * rows[0][j] + p.b * rows[1][j];
        out[5 * j + 1] = p.b * rows[0][j] + p.c * rows[1][j];
        out[5 * j + 2] = R(-0.5) * rows[2][j];
        out[5 * j + 3] = R(-1) * rows[3][j];
        out[5 * j + 4] = R(-0.5) * rows[4][j];
    }
    S colors[3][3], basis[MAX_BASES];
    if (seen.bases > 1) color_by_mean(seen, camera, colors, basis);
    for (int c = 0; c < 3; ++c)
        for (int j = 0; j < 3; ++j) out[MEAN_COLORS + 3 * c + j] = seen.bases > 1 ? colors[c][j] : S(R(0));
}

// Adds one pixel (or a register of them). weight: transmittance times alpha; derivative: d of each channel; w: of the pixel.
template <class S, class T>
DIFF3R_INLINE void add_pixel(const S& w, const S& weight, const S* derivative, const S& dx, const S& dy, const T* move, bool turns, S* sums) {
    const S energy = derivative[0] * derivative[0] + derivative[1] * derivative[1] + derivative[2] * derivative[2];
    const S pull = w * energy;
    const S twice = weight + weight;
    for (int j = 0; j < 3; ++j) {
        const T* k = move + 5 * j;
        const S q = dx * (dx * k[2] + dy * k[3] + S(k[0])) + dy * (dy * k[4] + S(k[1]));
        S total = pull * q;
        if (turns) {
            const T* color = move + MEAN_COLORS + j;
            total = total + w * twice * (derivative[0] * color[0] + derivative[1] * color[3] + derivative[2] * color[6]);
        }
        sums[j] = sums[j] + total * q;
    }
    const S xx = dx * dx, xy = dx * dy, yy = dy * dy;
    const S x = pull * xx, y = pull * yy;
    sums[3] = sums[3] + x * xx;
    sums[4] = sums[4] + x * xy;
    sums[5] = sums[5] + x * yy;
    sums[6] = sums[6] + y * xy;
    sums[7] = sums[7] + y * yy;
    sums[8] = sums[8] + pull;
    sums[9] = sums[9] + w * weight * weight;
}

// Adds one image's share of the diagonal: mean 3 (in units of s₀ left out), covariance 6, opacity (without its slope),
// constant color 3; and rest [3, bases - 1]. moves[k]: dΣ of the covariance's θ number k.
template <class S>
DIFF3R_INLINE void add_image(const Seen<S>& seen, const Camera<S>& camera, const Projection<S>& p, const S* sums, const S (*moves)[6],
                             S* diagonal, S* rest) {
    using R = Real<S>;
    const S nothing(R(0)), light = sums[9];
    S conic[3][6];  // derivative of the conic by the covariance; an off-diagonal number moves two entries
    for (int r = 0; r < 3; ++r) {
        ProjectionCotangent<S> back{};
        project_transposed(seen.mean, camera, p, nothing, nothing, S(R(r == 0)), S(R(r == 1)), S(R(r == 2)), false, back);
        for (int j = 0; j < 6; ++j) conic[r][j] = (j == 0 || j == 3 || j == 5) ? back.covariance[j] : R(2) * back.covariance[j];
    }
    for (int k = 0; k < 6; ++k) {
        S column[3];
        for (int r = 0; r < 3; ++r) {
            column[r] = conic[r][0] * moves[k][0];
            for (int i = 1; i < 6; ++i) column[r] = column[r] + conic[r][i] * moves[k][i];
        }
        const S a = R(0.5) * column[0], b = column[1], c = R(0.5) * column[2];
        diagonal[3 + k] = diagonal[3 + k] + (a * a * sums[3] + R(2) * (a * b) * sums[4] + (b * b + R(2) * (a * c)) * sums[5] +
                                             R(2) * (b * c) * sums[6] + c * c * sums[7]);
    }
    const S inverse = select(value(seen.opacity) > value(nothing), R(1) / seen.opacity, nothing);
    diagonal[9] = diagonal[9] + inverse * inverse * sums[8];
    S colors[3][3], basis[MAX_BASES];
    color_by_mean(seen, camera, colors, basis);
    for (int j = 0; j < 3; ++j) {
        S turned(R(0));
        for (int c = 0; c < 3 && seen.bases > 1; ++c) turned = turned + colors[c][j] * colors[c][j];
        diagonal[j] = diagonal[j] + (sums[j] + light * turned);
    }
    for (int c = 0; c < 3; ++c) {
        const S lit = seen.lit[c] * light;
        diagonal[10 + c] = diagonal[10 + c] + basis[0] * basis[0] * lit;
        DIFF3R_UNROLL
        for (int k = 1; k < seen.bases; ++k) {
            S& entry = rest[c * (seen.bases - 1) + k - 1];
            entry = entry + basis[k] * basis[k] * lit;
        }
    }
}

}  // namespace diff3r
