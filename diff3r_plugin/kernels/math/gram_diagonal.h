// The diagonal of Jᵀ W J in θ from ten sums over a splat's pixels, where the whole block needs 34.
//
// A pixel's derivative by a number of the mean is d q + weight · color': d = dI / d ln(alpha), q = d ln(alpha) / d mean, a
// polynomial whose coefficients are known before the pixels are visited. So its square is summed as it is.
//
// Pixels are counted in the splat's own axes, z = Lᵀ (dx, dy) with L Lᵀ the conic: |z| is at most 3.4 wherever a splat shows.
// In pixels, a needle's fourth powers would be of every size, and what is left of their sum less than nothing.
#pragma once

#include "charts.h"
#include "splat_chain.h"

namespace diff3r {

// Of each of the mean's three numbers: coefficients of z₁, z₂, z₁², z₁ z₂, z₂² in q; then color' by channel and number; L.
constexpr int MEAN_MOVE = 27;
constexpr int MEAN_COLORS = 15;
constexpr int MEAN_AXES = 24;
constexpr int DIAGONAL_SUMS = 10;  // mean 3, d² z₁^i z₂^j of degree four, d², weight²

// Share of a sum's terms that its rounding may take or add.
template <class R> constexpr R SUM_ROUNDING = sizeof(R) == 4 ? R(2e-5) : R(4e-14);

// The lower triangular L of L Lᵀ = conic: 11, 21, 22. The last one is not c - b² / a, of which a needle leaves no digit.
template <class S> DIFF3R_INLINE void conic_root(const Projection<S>& p, S* out) {
    using R = Real<S>;
    const S one(R(1)), nothing(R(0));
    const auto there = both(value(p.a) > nothing, value(p.cov_yy) > nothing);
    const S root = square_root(select(there, p.a, one));
    out[0] = select(there, root, nothing);
    out[1] = select(there, p.b / root, nothing);
    out[2] = select(there, R(1) / square_root(select(there, p.cov_yy, one)), nothing);
}

// Rows of the image's axes in space become those of the splat's own axes.
template <class S> DIFF3R_INLINE void in_own_axes(const S* root, const S* x, const S* y, S* along, S* across) {
    for (int j = 0; j < 3; ++j) {
        along[j] = root[0] * x[j] + root[1] * y[j];
        across[j] = root[2] * y[j];
    }
}

// d ln(alpha) = z · Lᵀ d center + zᵀ Lᵀ (d(J R) Σ (J R)ᵀ) L z.
template <class S> DIFF3R_INLINE void mean_move(const Seen<S>& seen, const Camera<S>& camera, const Projection<S>& p, S* out) {
    const S* forward = camera.rotation + 6;
    S* root = out + MEAN_AXES;
    S along[3], across[3];
    conic_root(p, root);
    in_own_axes(root, p.spread_x, p.spread_y, along, across);
    const RowMove<S> x_along = row_move(camera.fx, p.point[0], p.inside_x, p.axis_x, forward, p.inverse_depth, along);
    const RowMove<S> x_across = row_move(camera.fx, p.point[0], p.inside_x, p.axis_x, forward, p.inverse_depth, across);
    const RowMove<S> y_along = row_move(camera.fy, p.point[1], p.inside_y, p.axis_y, forward, p.inverse_depth, along);
    const RowMove<S> y_across = row_move(camera.fy, p.point[1], p.inside_y, p.axis_y, forward, p.inverse_depth, across);
    const S scale_x = camera.fx * p.inverse_depth, scale_y = camera.fy * p.inverse_depth;
    for (int j = 0; j < 3; ++j) {
        const S right = camera.rotation[j], down = camera.rotation[3 + j];
        const S x = scale_x * (right - p.ratio_x * forward[j]), y = scale_y * (down - p.ratio_y * forward[j]);
        const S xa = right * x_along.across + forward[j] * x_along.along, xc = right * x_across.across + forward[j] * x_across.along;
        const S ya = down * y_along.across + forward[j] * y_along.along, yc = down * y_across.across + forward[j] * y_across.along;
        out[5 * j] = root[0] * x + root[1] * y;
        out[5 * j + 1] = root[2] * y;
        out[5 * j + 2] = root[0] * xa + root[1] * ya;
        out[5 * j + 3] = root[0] * xc + root[1] * yc + root[2] * ya;
        out[5 * j + 4] = root[2] * yc;
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
    const T* root = move + MEAN_AXES;
    const S along = dx * root[0] + dy * root[1], across = dy * root[2];
    for (int j = 0; j < 3; ++j) {
        const T* k = move + 5 * j;
        const S q = along * (along * k[2] + across * k[3] + S(k[0])) + across * (across * k[4] + S(k[1]));
        if (turns) {
            S total(Real<S>(0));
            for (int c = 0; c < 3; ++c) {
                const S moved = derivative[c] * q + weight * move[MEAN_COLORS + 3 * c + j];
                total = total + moved * moved;
            }
            sums[j] = sums[j] + w * total;
        } else {
            sums[j] = sums[j] + pull * q * q;
        }
    }
    const S xx = along * along, xy = along * across, yy = across * across;
    const S left = pull * xx, right = pull * yy;
    sums[3] = sums[3] + left * xx;
    sums[4] = sums[4] + left * xy;
    sums[5] = sums[5] + left * yy;
    sums[6] = sums[6] + right * xy;
    sums[7] = sums[7] + right * yy;
    sums[8] = sums[8] + pull;
    sums[9] = sums[9] + w * weight * weight;
}

// Σ d² (a z₁² + b z₁ z₂ + c z₂²)² from the sums of degree four. Where its terms cancel to less than their rounding, that
// rounding: what is returned is neither negative nor below half of the exact sum.
template <class S> DIFF3R_INLINE S squared_move(const S* move, const S* sums) {
    using R = Real<S>;
    const S &a = move[0], &b = move[1], &c = move[2];
    const S first = a * a * sums[0], middle = b * b * sums[2], last = c * c * sums[4];
    const S total = first + middle + last + R(2) * (a * b * sums[1] + a * c * sums[2] + b * c * sums[3]);
    const S least = SUM_ROUNDING<R> * (first + middle + last);
    return select(value(total) > value(least), total, least);
}

// Adds one image's share of the diagonal: mean 3 (in units of s₀ left out), covariance 6, opacity (without its slope),
// constant color 3; and rest [3, bases - 1].
template <class S>
DIFF3R_INLINE void add_image(const Seen<S>& seen, const Camera<S>& camera, const Projection<S>& p, const LocalCovariance<S>& chart, const S* sums,
                             S* diagonal, S* rest) {
    using R = Real<S>;
    const S nothing(R(0)), light = sums[9];
    S moves[6][3], root[3], along[3], across[3];
    conic_root(p, root);
    in_own_axes(root, p.image_x, p.image_y, along, across);
    chart.image_moves(along, across, moves);
    for (int j = 0; j < 3; ++j) diagonal[j] = diagonal[j] + sums[j];
    for (int k = 0; k < 6; ++k) diagonal[3 + k] = diagonal[3 + k] + squared_move(moves[k], sums + 3);
    const S inverse = select(value(seen.opacity) > value(nothing), R(1) / seen.opacity, nothing);
    diagonal[9] = diagonal[9] + inverse * inverse * sums[8];
    S basis[MAX_BASES];
    basis_seen(seen, camera, basis);
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
