// Between the nine numbers of a splat and the numbers of its Gaussian: tangents forward, cotangents back, and the Gram
// matrix of one in terms of the other. Templates over a number S (a float on a GPU, a register of lanes on a CPU).
#pragma once

#include "dual.h"
#include "harmonics.h"
#include "pixel_math.h"
#include "projection.h"

namespace diff3r {

// How a splat moves, or the gradient with respect to it: x, y, a, b, c, opacity, red, green, blue.
constexpr int SPLAT_NUMBERS = 9;
constexpr int CAMERA_NUMBERS = 12;  // [R|t], row by row

constexpr int GRAM_NUMBERS = 34;  // sums over pixels: 15 geometry moments, 3 x 6 geometry times color, 1 color
constexpr int CORE = 13;          // mean 3, covariance 6, opacity, color 3
constexpr int MOVES = 9;          // mean and covariance: the columns that move more than one number of a splat
constexpr int GEOMETRY = 6;       // x, y, a, b, c, opacity

template <class S> DIFF3R_INLINE void zero(S* numbers, int count) {
    for (int j = 0; j < count; ++j) numbers[j] = S(Real<S>(0));
}

// Gaussians that are not rendered may hold anything, NaN too: zero them, so that nothing of it reaches a product with 0.
template <class S> DIFF3R_INLINE void visible_part(const MaskOf<S>& visible, const S* numbers, int count, S* out) {
    for (int j = 0; j < count; ++j) out[j] = select(visible, numbers[j], S(Real<S>(0)));
}
template <class S> DIFF3R_INLINE void keep_visible(const MaskOf<S>& visible, S* numbers, int count) { visible_part(visible, numbers, count, numbers); }
template <class S> DIFF3R_INLINE void keep_visible(const MaskOf<S>& visible, Projection<S>& p) {
    S* const vectors[] = {p.point, p.axis_x, p.axis_y, p.image_x, p.image_y, p.spread_x, p.spread_y};
    S* const numbers[] = {&p.inverse_depth, &p.slope_x, &p.slope_y, &p.cov_yy, &p.a, &p.b, &p.c};
    for (S* vector : vectors) keep_visible(visible, vector, 3);
    for (S* number : numbers) keep_visible(visible, number, 1);
    if (!p.antialiased) return;
    keep_visible(visible, &p.dimming, 1);
    keep_visible(visible, p.log_dimming, 3);
}

// A camera on dual numbers: moved(i, j) is the tangent of an entry of [R|t]; the lens stands still.
template <class S, class Moved> DIFF3R_INLINE Camera<Dual<S>> moving_camera(const Camera<S>& still, const Moved& moved) {
    using D = Dual<S>;
    Camera<D> camera;
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) camera.rotation[3 * i + j] = D::with_tangent(still.rotation[3 * i + j], moved(i, j));
        camera.translation[i] = D::with_tangent(still.translation[i], moved(i, 3));
    }
    copy_lens(still, camera);
    return camera;
}

// Color tangents: coefficients and direction both move. `still` is not read for one basis function.
template <class S>
DIFF3R_INLINE void color_jvp(int bases, const Dual<S>* direction, const S* moved, const S* still, S* out) {
    Dual<S> basis[MAX_BASES];
    harmonic_basis(bases, direction[0], direction[1], direction[2], basis);
    DIFF3R_UNROLL
    for (int c = 0; c < 3; ++c) {
        out[c] = moved[c * bases] * basis[0].v;
        DIFF3R_UNROLL
        for (int k = 1; k < bases; ++k) out[c] = out[c] + (moved[c * bases + k] * basis[k].v + still[c * bases + k] * basis[k].d[0]);
    }
}

// One Gaussian (or a register of them) in one image, on the way back.
template <class S> struct Seen {
    int bases;
    const S* mean;          // zero where not rendered, like the next two
    const S* covariance;
    S opacity;
    const S* coefficients;  // not read for one basis function
    const S* lit;           // 1, or 0 for a channel that is clamped at zero and has no derivative
    MaskOf<S> visible;
};

// Cotangents of one Gaussian; harmonics are [3, bases].
template <class S> struct GaussianSums {
    S* mean;
    S* covariance;
    S* opacity;
    S* harmonics;
};

// Adds the share of one image to `sums`, and to `camera_sums` (where not null) what [R|t] gets. `splat`: cotangent of
// x, y, a, b, c, opacity times the opacity, red, green, blue.
template <class S>
DIFF3R_INLINE void gaussian_vjp(const Seen<S>& seen, const Camera<S>& camera, const Projection<S>& p, const S* splat, const GaussianSums<S>& sums,
                              S* camera_sums) {
    using R = Real<S>;
    const S one(R(1));
    ProjectionCotangent<S> back{};
    project_transposed(seen.mean, camera, p, splat[0], splat[1], splat[2], splat[3], splat[4], splat[5], camera_sums != nullptr, back);
    *sums.opacity = *sums.opacity + splat[5] / select(seen.visible, seen.opacity, one);
    for (int j = 0; j < 6; ++j) sums.covariance[j] = sums.covariance[j] + back.covariance[j];

    S color[3];
    for (int c = 0; c < 3; ++c) color[c] = seen.lit[c] * splat[6 + c];
    if (seen.bases == 1) {
        S basis;
        harmonic_basis(1, basis, basis, basis, &basis);
        for (int c = 0; c < 3; ++c) sums.harmonics[c] = sums.harmonics[c] + color[c] * basis;
    } else {
        S offset[3], direction[3], basis[MAX_BASES], gradient[MAX_BASES][3], turn[3], from_offset[3];
        offset_from_camera(seen.mean, camera, offset);
        keep_visible<S>(seen.visible, offset, 3);
        const S inverse_length = normalize(offset, direction);
        harmonic_basis_with_gradient(seen.bases, direction, basis, gradient);
        zero(turn, 3);
        DIFF3R_UNROLL
        for (int k = 0; k < seen.bases; ++k) {
            S shared(R(0));
            DIFF3R_UNROLL
            for (int c = 0; c < 3; ++c) {
                const int at = c * seen.bases + k;
                sums.harmonics[at] = sums.harmonics[at] + color[c] * basis[k];
                if (k) shared = shared + color[c] * seen.coefficients[at];
            }
            for (int j = 0; j < 3 && k; ++j) turn[j] = turn[j] + shared * gradient[k][j];
        }
        keep_visible<S>(seen.visible, turn, 3);
        normalize_transposed(direction, inverse_length, turn, from_offset);
        for (int j = 0; j < 3; ++j) back.mean[j] = back.mean[j] + from_offset[j];
        if (camera_sums)  // offset = mean + Rᵀ t
            for (int i = 0; i < 3; ++i) {
                for (int j = 0; j < 3; ++j)
                    back.rotation[3 * i + j] = back.rotation[3 * i + j] + camera.translation[i] * from_offset[j];
                back.translation[i] = back.translation[i] + dot3(camera.rotation + 3 * i, from_offset);
            }
    }
    for (int j = 0; j < 3; ++j) sums.mean[j] = sums.mean[j] + back.mean[j];
    if (!camera_sums) return;
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) camera_sums[4 * i + j] = camera_sums[4 * i + j] + back.rotation[3 * i + j];
        camera_sums[4 * i + 3] = camera_sums[4 * i + 3] + back.translation[i];
    }
}

// Index of dx^i dy^j in the order 1, x, y, xx, xy, yy, xxx, ... yyyy.
DIFF3R_INLINE constexpr int monomial(int i, int j) { return (i + j) * (i + j + 1) / 2 + j; }
DIFF3R_INLINE constexpr int power_x(int k) { return k == 1 || k == 4 ? 1 : k == 3 ? 2 : 0; }
DIFF3R_INLINE constexpr int power_y(int k) { return k == 2 || k == 4 ? 1 : k == 5 ? 2 : 0; }

// Adds weight · dx^i dy^j up to degree four to 15 sums.
template <class S> DIFF3R_INLINE void add_moments(const S& weight, const S& dx, const S& dy, S* sums) {
    S power[5];
    power[0] = weight;
    DIFF3R_UNROLL
    for (int degree = 0; degree <= 4; ++degree) {
        const int first = degree * (degree + 1) / 2;
        DIFF3R_UNROLL
        for (int k = 0; k <= degree; ++k) sums[first + k] = sums[first + k] + power[k];
        if (degree == 4) break;
        power[degree + 1] = power[degree] * dy;
        DIFF3R_UNROLL
        for (int k = degree; k >= 0; --k) power[k] = power[k] * dx;
    }
}

// The moments up to degree two themselves.
template <class S> DIFF3R_INLINE void low_moments(const S& weight, const S& dx, const S& dy, S* out) {
    out[0] = weight, out[1] = weight * dx, out[2] = weight * dy;
    out[3] = out[1] * dx, out[4] = out[1] * dy, out[5] = out[2] * dy;
}

// Adds them to 6 sums.
template <class S> DIFF3R_INLINE void add_low_moments(const S& weight, const S& dx, const S& dy, S* sums) {
    const S x = weight * dx, y = weight * dy;
    sums[0] = sums[0] + weight;
    sums[1] = sums[1] + x;
    sums[2] = sums[2] + y;
    sums[3] = sums[3] + x * dx;
    sums[4] = sums[4] + x * dy;
    sums[5] = sums[5] + y * dy;
}

// geometry[6][6] and cross[6][3] from the sums over pixels. The derivative of ln(alpha) with respect to x, y, a, b, c,
// opacity is a polynomial in 1, dx, dy, dx², dx dy, dy² (footprint_cotangent); row r has the monomials begin to end.
template <class S>
DIFF3R_INLINE void footprint_gram(const Projection<S>& p, const S& opacity, const S* sums, S (*geometry)[GEOMETRY], S (*cross)[3]) {
    using R = Real<S>;
    const S nothing(R(0));
    const S polynomial[GEOMETRY][2] = {{p.a, p.b},
                                       {p.b, p.c},
                                       {S(R(-0.5)), nothing},
                                       {S(R(-1)), nothing},
                                       {S(R(-0.5)), nothing},
                                       {select(value(opacity) > value(nothing), R(1) / opacity, nothing), nothing}};
    constexpr int begin[GEOMETRY] = {1, 1, 3, 4, 5, 0}, end[GEOMETRY] = {3, 3, 4, 5, 6, 1};
    DIFF3R_UNROLL
    for (int r = 0; r < GEOMETRY; ++r) {
        DIFF3R_UNROLL
        for (int q = 0; q <= r; ++q) {
            S total(R(0));
            for (int i = begin[r]; i < end[r]; ++i)
                for (int j = begin[q]; j < end[q]; ++j)
                    total = total + polynomial[r][i - begin[r]] * polynomial[q][j - begin[q]] *
                                        sums[monomial(power_x(i) + power_x(j), power_y(i) + power_y(j))];
            geometry[r][q] = geometry[q][r] = total;
        }
        for (int c = 0; c < 3; ++c) {
            cross[r][c] = nothing;
            for (int i = begin[r]; i < end[r]; ++i) cross[r][c] = cross[r][c] + polynomial[r][i - begin[r]] * sums[15 + 6 * c + i];
        }
    }
}

// The SH basis at the direction that a Gaussian is seen from.
template <class S> DIFF3R_INLINE void basis_seen(const Seen<S>& seen, const Camera<S>& camera, S* basis) {
    S offset[3], direction[3];
    offset_from_camera(seen.mean, camera, offset);
    keep_visible<S>(seen.visible, offset, 3);
    normalize(offset, direction);
    harmonic_basis(seen.bases, direction[0], direction[1], direction[2], basis);
}

// The derivative of a splat's colors (rows) with respect to the mean, which turns the direction it is seen from; and the SH
// basis at that direction.
template <class S> DIFF3R_INLINE void color_by_mean(const Seen<S>& seen, const Camera<S>& camera, S (*rows)[3], S* basis) {
    const int bases = seen.bases;
    S offset[3], direction[3], gradient[MAX_BASES][3];
    offset_from_camera(seen.mean, camera, offset);
    keep_visible<S>(seen.visible, offset, 3);
    const S inverse_length = normalize(offset, direction);
    harmonic_basis_with_gradient(bases, direction, basis, gradient);
    DIFF3R_UNROLL
    for (int c = 0; c < 3; ++c) {
        S turn[3];
        zero(turn, 3);
        DIFF3R_UNROLL
        for (int k = 1; k < bases; ++k)
            for (int j = 0; j < 3; ++j) turn[j] = turn[j] + seen.coefficients[c * bases + k] * gradient[k][j];
        normalize_transposed(direction, inverse_length, turn, rows[c]);
        for (int j = 0; j < 3; ++j) rows[c][j] = seen.lit[c] * rows[c][j];
        keep_visible<S>(seen.visible, rows[c], 3);
    }
}

// The derivative of a splat's x, y, a, b, c, opacity (only where it is dimmed; in units of the Gaussian's own, by which
// its derivative is one) and colors (rows) with respect to mean and covariance (columns; an off-diagonal number moves two entries of the matrix), and the SH basis at its direction.
template <class S> struct SplatDerivative {
    S rows[SPLAT_NUMBERS][MOVES];
    S basis[MAX_BASES];

    // One transposed product each for x, y, a, b, c; the colors move through the direction.
    DIFF3R_INLINE SplatDerivative(const Seen<S>& seen, const Camera<S>& camera, const Projection<S>& p) {
        using R = Real<S>;
        DIFF3R_UNROLL
        for (int r = 0; r < GEOMETRY; ++r) {
            if (r == 5 && !p.antialiased) break;
            S seed[GEOMETRY];
            for (int j = 0; j < GEOMETRY; ++j) seed[j] = j == r ? (j == 5 ? seen.opacity : S(R(1))) : S(R(0));
            ProjectionCotangent<S> back{};
            project_transposed(seen.mean, camera, p, seed[0], seed[1], seed[2], seed[3], seed[4], seed[5], false, back);
            for (int j = 0; j < 3; ++j) rows[r][j] = back.mean[j];
            for (int j = 0; j < 6; ++j) rows[r][3 + j] = (j == 0 || j == 3 || j == 5) ? back.covariance[j] : R(2) * back.covariance[j];
        }
        S colors[3][3];
        color_by_mean(seen, camera, colors, basis);
        for (int c = 0; c < 3; ++c) {
            for (int j = 0; j < 3; ++j) rows[6 + c][j] = colors[c][j];
            zero(rows[6 + c] + 3, MOVES - 3);
        }
    }
};

// Adds one image's share to core [13, 13] (lower triangle) and rest [3, bases - 1]: Pᵀ G P with G the splat's Gram matrix
// and P the derivative of its nine numbers with respect to mean, covariance, opacity and constant color coefficients.
template <class S>
DIFF3R_INLINE void gaussian_gram(const Seen<S>& seen, const Camera<S>& camera, const Projection<S>& p, const S* sums, S* core, S* rest) {
    const int bases = seen.bases;
    S geometry[GEOMETRY][GEOMETRY], cross[GEOMETRY][3];
    footprint_gram(p, seen.opacity, sums, geometry, cross);
    const SplatDerivative<S> derivative(seen, camera, p);
    const auto& rows = derivative.rows;
    const S* basis = derivative.basis;
    for (int c = 0; c < 3; ++c)
        for (int r = 0; r < GEOMETRY; ++r) cross[r][c] = seen.lit[c] * cross[r][c];
    const S light = sums[GRAM_NUMBERS - 1];

    // G P for the moving columns, then Pᵀ of it; opacity and color coefficients are single entries of P.
    DIFF3R_UNROLL
    for (int j = 0; j < MOVES; ++j) {
        S shape[GEOMETRY], color[3];
        for (int r = 0; r < GEOMETRY; ++r) {
            shape[r] = geometry[r][0] * rows[0][j];
            for (int q = 1; q < 5; ++q) shape[r] = shape[r] + geometry[r][q] * rows[q][j];
            if (p.antialiased) shape[r] = shape[r] + geometry[r][5] * rows[5][j];
            for (int c = 0; c < 3 && j < 3; ++c) shape[r] = shape[r] + cross[r][c] * rows[6 + c][j];
        }
        for (int c = 0; c < 3; ++c) {
            color[c] = light * rows[6 + c][j];
            for (int q = 0; q < 5; ++q) color[c] = color[c] + cross[q][c] * rows[q][j];
            if (p.antialiased) color[c] = color[c] + cross[5][c] * rows[5][j];
        }
        DIFF3R_UNROLL
        for (int i = 0; i <= j; ++i) {
            S total = rows[0][i] * shape[0];
            for (int q = 1; q < 5; ++q) total = total + rows[q][i] * shape[q];
            if (p.antialiased) total = total + rows[5][i] * shape[5];
            for (int c = 0; c < 3 && i < 3; ++c) total = total + rows[6 + c][i] * color[c];
            core[j * CORE + i] = core[j * CORE + i] + total;
        }
        core[9 * CORE + j] = core[9 * CORE + j] + shape[5];
        for (int c = 0; c < 3; ++c) core[(10 + c) * CORE + j] = core[(10 + c) * CORE + j] + basis[0] * (seen.lit[c] * color[c]);
    }
    core[9 * CORE + 9] = core[9 * CORE + 9] + geometry[5][5];
    for (int c = 0; c < 3; ++c) {
        const int row = 10 + c;
        core[row * CORE + 9] = core[row * CORE + 9] + basis[0] * cross[5][c];
        core[row * CORE + row] = core[row * CORE + row] + basis[0] * basis[0] * (seen.lit[c] * light);
        DIFF3R_UNROLL
        for (int k = 1; k < bases; ++k) {
            S& entry = rest[c * (bases - 1) + k - 1];
            entry = entry + basis[k] * basis[k] * (seen.lit[c] * light);
        }
    }
}

}  // namespace diff3r
