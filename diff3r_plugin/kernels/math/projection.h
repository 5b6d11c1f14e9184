// Per-splat mathematics: a 3D Gaussian seen by a pinhole camera becomes a 2D Gaussian (EWA splatting: Zwicker et al.
// 2001), and the transpose of that map's derivative. The derivative itself comes from running it on dual numbers.
#pragma once

#include "constants.h"
#include "dual.h"
#include "scalar.h"

namespace diff3r {

// [R|t] are numbers like any other (they have derivatives); the lens is constant.
template <class S> struct Camera {
    S rotation[9];
    S translation[3];
    Real<S> fx, fy, cx, cy;
    Real<S> x_low, x_high, y_low, y_high;  // bounds of X/Z and Y/Z in the perspective Jacobian
    Real<S> near_plane, far_plane;
    Real<S> dilation;   // px², on both diagonal entries of the projected covariance
    bool antialiased;   // splats are dimmed by what the dilation adds to their area
};

template <class R> DIFF3R_INLINE void set_lens(Camera<R>& camera, const R* intrinsics, R near_plane, R far_plane, R width, R height, R dilation, bool antialiased) {
    camera.fx = intrinsics[0];
    camera.cx = intrinsics[2];
    camera.fy = intrinsics[4];
    camera.cy = intrinsics[5];
    R margin_x = R(FRUSTUM_MARGIN * 0.5) * width / camera.fx;
    R margin_y = R(FRUSTUM_MARGIN * 0.5) * height / camera.fy;
    camera.x_low = -(camera.cx / camera.fx + margin_x);
    camera.x_high = (width - camera.cx) / camera.fx + margin_x;
    camera.y_low = -(camera.cy / camera.fy + margin_y);
    camera.y_high = (height - camera.cy) / camera.fy + margin_y;
    camera.near_plane = near_plane;
    camera.far_plane = far_plane;
    camera.dilation = dilation;
    camera.antialiased = antialiased;
}

// All of a camera but [R|t], in numbers of another type.
template <class S, class From> DIFF3R_INLINE void copy_lens(const From& from, Camera<S>& to) {
    to.fx = from.fx, to.fy = from.fy, to.cx = from.cx, to.cy = from.cy;
    to.x_low = from.x_low, to.x_high = from.x_high, to.y_low = from.y_low, to.y_high = from.y_high;
    to.near_plane = from.near_plane, to.far_plane = from.far_plane;
    to.dilation = from.dilation, to.antialiased = from.antialiased;
}

// Everything that the projection of one Gaussian computes on its way and that its transpose needs again.
// Symmetric 3x3 matrices are six numbers: xx, xy, xz, yy, yz, zz.
template <class S> struct Projection {
    S point[3];                  // camera coordinates
    S inverse_depth;
    S ratio_x, ratio_y;          // X/Z and Y/Z
    S slope_x, slope_y;          // the same, clamped
    S axis_x[3], axis_y[3];      // rows of J R / inverse_depth / focal length
    S image_x[3], image_y[3];    // rows of J R
    S spread_x[3], spread_y[3];  // covariance times those rows
    S x, y;                      // center, px
    S cov_xx, cov_xy, cov_yy;    // px², dilated
    S a, b, c;                   // conic: exponent = (a dx² + c dy²) / 2 + b dx dy
    MaskOf<S> inside_x, inside_y;
    MaskOf<S> visible;           // in front of the camera, finite and not degenerate
    bool antialiased;            // what follows is set only then
    S dimming;                   // k = √(det Σ / det(Σ + dilation I)) with Σ the covariance in the image
    S log_dimming[3];            // d ln k by xx, xy, yy of Σ
};

template <class S> DIFF3R_INLINE S dot3(const S* a, const S* b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

template <class S> DIFF3R_INLINE void symmetric_times(const S* m, const S* x, S* out) {
    out[0] = m[0] * x[0] + m[1] * x[1] + m[2] * x[2];
    out[1] = m[1] * x[0] + m[3] * x[1] + m[4] * x[2];
    out[2] = m[2] * x[0] + m[4] * x[1] + m[5] * x[2];
}

// `inverse`: of the dilated determinant. A splat without area is dimmed to nothing.
template <class S> DIFF3R_INLINE void dim(const S& xx, const S& yy, const S& inverse, Projection<S>& p) {
    using R = Real<S>;
    const S one(R(1)), nothing(R(0));
    const S determinant = xx * yy - p.cov_xy * p.cov_xy, ratio = determinant * inverse;
    const auto area = both(value(determinant) > R(0), value(ratio) > R(0));
    p.dimming = select(area, square_root(select(area, ratio, one)), nothing);
    const S sharp = select(area, one / select(area, determinant, one), nothing);
    p.log_dimming[0] = R(0.5) * (yy * sharp - p.a);
    p.log_dimming[1] = -(p.cov_xy * sharp) - p.b;
    p.log_dimming[2] = R(0.5) * (xx * sharp - p.c);
}

// The tangent of ln k.
template <class S> DIFF3R_INLINE S log_dimming_tangent(const Projection<Dual<S>>& p) {
    const S nothing(Real<S>(0)), one(Real<S>(1));
    const auto shows = value(p.dimming) > Real<S>(0);
    return select(shows, p.dimming.d[0] / select(shows, p.dimming.v, one), nothing);
}

template <class S> DIFF3R_INLINE void project(const S* mean, const S* covariance, const Camera<S>& camera, Projection<S>& p) {
    using R = Real<S>;
    const S* rotation = camera.rotation;
    for (int i = 0; i < 3; ++i) p.point[i] = dot3(rotation + 3 * i, mean) + camera.translation[i];
    p.inverse_depth = R(1) / p.point[2];
    p.ratio_x = p.point[0] * p.inverse_depth;
    p.ratio_y = p.point[1] * p.inverse_depth;
    p.x = camera.fx * p.ratio_x + camera.cx;
    p.y = camera.fy * p.ratio_y + camera.cy;

    const auto rx = value(p.ratio_x), ry = value(p.ratio_y);
    p.inside_x = both(rx >= camera.x_low, rx <= camera.x_high);
    p.inside_y = both(ry >= camera.y_low, ry <= camera.y_high);
    p.slope_x = select(p.inside_x, p.ratio_x, select(rx < camera.x_low, S(camera.x_low), S(camera.x_high)));
    p.slope_y = select(p.inside_y, p.ratio_y, select(ry < camera.y_low, S(camera.y_low), S(camera.y_high)));
    const S scale_x = camera.fx * p.inverse_depth, scale_y = camera.fy * p.inverse_depth;
    for (int j = 0; j < 3; ++j) {
        p.axis_x[j] = rotation[j] - p.slope_x * rotation[6 + j];
        p.axis_y[j] = rotation[3 + j] - p.slope_y * rotation[6 + j];
        p.image_x[j] = scale_x * p.axis_x[j];
        p.image_y[j] = scale_y * p.axis_y[j];
    }
    symmetric_times(covariance, p.image_x, p.spread_x);
    symmetric_times(covariance, p.image_y, p.spread_y);
    const S sharp_xx = dot3(p.image_x, p.spread_x), sharp_yy = dot3(p.image_y, p.spread_y);
    p.cov_xx = sharp_xx + camera.dilation;
    p.cov_xy = dot3(p.image_x, p.spread_y);
    p.cov_yy = sharp_yy + camera.dilation;
    const S determinant = p.cov_xx * p.cov_yy - p.cov_xy * p.cov_xy;
    const S inverse = R(1) / determinant;
    p.a = p.cov_yy * inverse;
    p.b = -(p.cov_xy * inverse);
    p.c = p.cov_xx * inverse;
    p.antialiased = camera.antialiased;
    if (p.antialiased) dim(sharp_xx, sharp_yy, inverse, p);

    const auto depth = value(p.point[2]);
    p.visible = both(both(depth > camera.near_plane, depth < camera.far_plane), value(determinant) > R(0));
    p.visible = both(p.visible, both(value(p.cov_xx) > R(0), is_finite(p.x + p.y)));
    p.visible = both(p.visible, is_finite(p.a + p.b + p.c + p.cov_xx + p.cov_yy));
}

// Cotangents of one Gaussian seen by one camera. The covariance's is that of its six numbers as one symmetric matrix:
// the entries of the full 3x3 cotangent, each of the off-diagonal ones standing for half of the derivative.
template <class S> struct ProjectionCotangent {
    S mean[3];
    S covariance[6];
    S rotation[9];
    S translation[3];
};

// What a row of J R passes on to the point in front of the camera: across the row's own axis, and along the depth.
template <class S> struct RowMove {
    S across, along;
};

// `row`: cotangent of the row of J R that belongs to an axis of the image; `coordinate`: X or Y of the point.
template <class S>
DIFF3R_INLINE RowMove<S> row_move(const Real<S>& focal, const S& coordinate, const MaskOf<S>& inside, const S* axis, const S* forward,
                                  const S& inverse_depth, const S* row) {
    const S slope = select(inside, -(focal * inverse_depth * dot3(forward, row)), S(Real<S>(0)));
    return {inverse_depth * slope, -(inverse_depth * inverse_depth * (focal * dot3(axis, row) + coordinate * slope))};
}

// (dx, dy, da, db, dc) of the 2D splat, and of the logarithm of its dimming, back to the Gaussian and the camera.
template <class S>
DIFF3R_INLINE void project_transposed(const S* mean, const Camera<S>& camera, const Projection<S>& p, const S& dx, const S& dy,
                                      const S& da, const S& db, const S& dc, const S& dimmed, bool with_camera, ProjectionCotangent<S>& out) {
    using R = Real<S>;
    // conic = inverse(cov): d cov = -conic G conic with G the symmetric matrix [[da, db/2], [db/2, dc]].
    const S half = R(0.5) * db;
    const S g00 = p.a * da + p.b * half, g01 = p.a * half + p.b * dc;
    const S g10 = p.b * da + p.c * half, g11 = p.b * half + p.c * dc;
    S cov_xx = -(g00 * p.a + g01 * p.b);
    S cov_xy = -(g00 * p.b + g01 * p.c + g10 * p.a + g11 * p.b);
    S cov_yy = -(g10 * p.b + g11 * p.c);
    if (p.antialiased) {
        cov_xx = cov_xx + dimmed * p.log_dimming[0];
        cov_xy = cov_xy + dimmed * p.log_dimming[1];
        cov_yy = cov_yy + dimmed * p.log_dimming[2];
    }

    const S* u = p.image_x;
    const S* w = p.image_y;
    const S half_xy = R(0.5) * cov_xy;
    S row_x[3], row_y[3];
    for (int j = 0; j < 3; ++j) {
        row_x[j] = cov_xx * u[j] + half_xy * w[j];
        row_y[j] = half_xy * u[j] + cov_yy * w[j];
    }
    int entry = 0;
    for (int i = 0; i < 3; ++i)
        for (int j = i; j < 3; ++j) out.covariance[entry++] = u[i] * row_x[j] + w[i] * row_y[j];

    S image_x[3], image_y[3];
    for (int j = 0; j < 3; ++j) {
        image_x[j] = R(2) * cov_xx * p.spread_x[j] + cov_xy * p.spread_y[j];
        image_y[j] = cov_xy * p.spread_x[j] + R(2) * cov_yy * p.spread_y[j];
    }
    const S* forward = camera.rotation + 6;
    const S scale_x = camera.fx * p.inverse_depth, scale_y = camera.fy * p.inverse_depth;
    const RowMove<S> x = row_move(camera.fx, p.point[0], p.inside_x, p.axis_x, forward, p.inverse_depth, image_x);
    const RowMove<S> y = row_move(camera.fy, p.point[1], p.inside_y, p.axis_y, forward, p.inverse_depth, image_y);
    const S center_x = scale_x * dx, center_y = scale_y * dy;
    const S point[3] = {x.across + center_x, y.across + center_y,
                        x.along + y.along - p.inverse_depth * (p.point[0] * center_x + p.point[1] * center_y)};
    for (int j = 0; j < 3; ++j)
        out.mean[j] = camera.rotation[j] * point[0] + camera.rotation[3 + j] * point[1] + camera.rotation[6 + j] * point[2];
    if (!with_camera) return;
    for (int j = 0; j < 3; ++j) {
        const S along_x = scale_x * image_x[j], along_y = scale_y * image_y[j];
        out.rotation[j] = point[0] * mean[j] + along_x;
        out.rotation[3 + j] = point[1] * mean[j] + along_y;
        out.rotation[6 + j] = point[2] * mean[j] - p.slope_x * along_x - p.slope_y * along_y;
        out.translation[j] = point[j];
    }
}

// From the camera center to the Gaussian, not normalized: mean - (-Rᵀ t).
template <class S> DIFF3R_INLINE void offset_from_camera(const S* mean, const Camera<S>& camera, S* offset) {
    for (int j = 0; j < 3; ++j)
        offset[j] = mean[j] + (camera.rotation[j] * camera.translation[0] + camera.rotation[3 + j] * camera.translation[1] +
                               camera.rotation[6 + j] * camera.translation[2]);
}

// Unit vector along offset (zero for a zero offset); returns 1 / length.
template <class S> DIFF3R_INLINE S normalize(const S* offset, S* direction) {
    using R = Real<S>;
    const S squared = dot3(offset, offset);
    const auto nonzero = value(squared) > R(0);
    const S inverse = select(nonzero, R(1) / square_root(select(nonzero, squared, S(R(1)))), S(R(0)));
    for (int j = 0; j < 3; ++j) direction[j] = offset[j] * inverse;
    return inverse;
}

// Cotangent of the direction back to the offset.
template <class S> DIFF3R_INLINE void normalize_transposed(const S* direction, const S& inverse_length, const S* cotangent, S* out) {
    const S along = dot3(direction, cotangent);
    for (int j = 0; j < 3; ++j) out[j] = (cotangent[j] - direction[j] * along) * inverse_length;
}

}  // namespace diff3r
