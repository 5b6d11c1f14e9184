// The diagonal of Jᵀ W J in θ from ten sums over a splat's pixels, where the whole block needs 34.
//
// A pixel's derivative by a number of the mean is d q + weight · color': d = dI / d ln(alpha), q = d ln(alpha) / d mean, a
// polynomial in dx, dy whose coefficients are known before the pixels are visited. So its square is summed as it is.
#pragma once

#include "charts.h"
#include "splat_chain.h"

namespace diff3r {

// Of each of the mean's three numbers: coefficients of dx, dy, dx², dx dy, dy² in q; then color' by channel and number.
constexpr int MEAN_MOVE = 24;
constexpr int MEAN_COLORS = 15;
constexpr int DIAGONAL_SUMS = 10;  // mean 3 (without what color' alone adds), d² dx^i dy^j of degree four, d², weight²

// What d ln(alpha) has of dx², dx dy, dy² when the covariance in the image moves by (2 xx, xy, 2 yy): half of conic · move ·
// conic. Not the move in units of conic · (dx, dy): for a needle, powers of those would cancel in more digits than a float has.
template <class S> DIFF3R_INLINE void exponent_move(const Projection<S>& p, const S& xx, const S& xy, const S& yy, S* out) {
    using R = Real<S>;
    const S left = R(2) * (p.a * xx) + p.b * xy, right = p.a * xy + R(2) * (p.b * yy);
    out[0] = R(0.5) * (left * p.a + right * p.b);
    out[1] = left * p.b + right * p.c;
    out[2] = R(0.5) * ((R(2) * (p.b * xx) + p.c * xy) * p.b + (p.b * xy + R(2) * (p.c * yy)) * p.c);
}

template <class S> DIFF3R_INLINE void mean_move(const Seen<S>& seen, const Camera<S>& camera, const Projection<S>& p, S* out) {
    const S* forward = camera.rotation + 6;
    const RowMove<S> xx = row_move(camera.fx, p.point[0], p.inside_x, p.axis_x, forward, p.inverse_depth, p.spread_x);
    const RowMove<S> xy = row_move(camera.fx, p.point[0], p.inside_x, p.axis_x, forward, p.inverse_depth, p.spread_y);
    const RowMove<S> yx = row_move(camera.fy, p.point[1], p.inside_y, p.axis_y, forward, p.inverse_depth, p.spread_x);
    const RowMove<S> yy = row_move(camera.fy, p.point[1], p.inside_y, p.axis_y, forward, p.inverse_depth, p.spread_y);
    const S scale_x = camera.fx * p.inverse_depth, scale_y = camera.fy * p.inverse_depth;
    for (int j = 0; j < 3; ++j) {
        const S right = camera.rotation[j], down = camera.rotation[3 + j];
        const S x = scale_x * (right - p.ratio_x * forward[j]), y = scale_y * (down - p.ratio_y * forward[j]);
        out[5 * j] = p.a * x + p.b * y;
        out[5 * j + 1] = p.b * x + p.c * y;
        exponent_move(p, right * xx.across + forward[j] * xx.along, right * xy.across + down * yx.across + forward[j] * (xy.along + yx.along),
                      down * yy.across + forward[j] * yy.along, out + 5 * j + 2);
    }
    S colors[3][3], basis[MAX_BASES];
    if (seen.bases > 1) color_by_mean(seen, camera, colors, basis);
    for (int c = 0; c < 3; ++c)
        for (int j = 0; j < 3; ++j) out[MEAN_COLORS + 3 * c + j] = seen.bases > 1 ? colors[c][j] : S(Real<S>(0));
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
    const S left = pull * xx, right = pull * yy;
    sums[3] = sums[3] + left * xx;
    sums[4] = sums[4] + left * xy;
    sums[5] = sums[5] + left * yy;
    sums[6] = sums[6] + right * xy;
    sums[7] = sums[7] + right * yy;
    sums[8] = sums[8] + pull;
    sums[9] = sums[9] + w * weight * weight;
}

// Adds one image's share of the diagonal: mean 3 (in units of s₀ left out), covariance 6, opacity (without its slope),
// constant color 3; and rest [3, bases - 1].
template <class S>
DIFF3R_INLINE void add_image(const Seen<S>& seen, const Camera<S>& camera, const Projection<S>& p, const LocalCovariance<S>& chart, const S* sums,
                             S* diagonal, S* rest) {
    using R = Real<S>;
    const S nothing(R(0)), light = sums[9];
    S moves[6][3];
    chart.image_moves(p.image_x, p.image_y, moves);
    for (int k = 0; k < 6; ++k) {
        S move[3];
        exponent_move(p, moves[k][0], moves[k][1], moves[k][2], move);
        const S &a = move[0], &b = move[1], &c = move[2];
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
