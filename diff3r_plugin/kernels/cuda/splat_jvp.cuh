// Tangents of Gaussians or of θ (and of cameras) to tangents of splats: the projection on dual numbers, one thread a Gaussian.
#pragma once

#include "chart_rows.cuh"

namespace diff3r {

template <class T> __device__ __forceinline__ Camera<Dual<T>> camera_of(const DeviceScene<T>& scene, const T* tangents, int64_t image) {
    Camera<T> still;
    load_camera(scene, image, still);
    const T* matrix = tangents ? tangents + 16 * image : nullptr;
    return moving_camera(still, [&](int i, int j) { return matrix ? matrix[4 * i + j] : T(0); });
}

// Six coefficients of the tangent of ln(alpha) (footprint_tangent) and that of three colors, [I, N, 9]. Zeroes `moments` (or null) of
// the same shape for the product that follows, where a splat is rendered: nobody reads the others.
template <class T, int BASES, class Tangent>
__device__ __forceinline__ void push_tangent(const DeviceScene<T>& scene, const Tangent& tangent, T* out, T* moments) {
    using D = Dual<T>;
    __shared__ T rows[Row<BASES>::stride * GAUSSIAN_THREADS];
    const GaussianBlock<T> block(scene.gaussians);
    tangent.template load<BASES>(scene, block, rows);
    if (!block.mine) return;
    const T* row = rows + Row<BASES>::stride * int(threadIdx.x);
    T shape[6];
    D mean[3], covariance[6];
    for (int j = 0; j < 3; ++j) mean[j] = D::with_tangent(scene.means[3 * block.n + j], row[j]);
    load_symmetric(scene.covariances, block.n, shape);
    for (int j = 0; j < 6; ++j) covariance[j] = D::with_tangent(shape[j], row[Row<BASES>::covariance + j]);
    for (int64_t view = 0; view < scene.views; ++view) {
        const int64_t image = block.scene * scene.views + view, at = image * scene.gaussians + block.within;
        const int flags = scene.flags[at];
        if (!(flags & VISIBLE)) continue;  // in no tile's list, so nobody reads it
        const Camera<D> camera = camera_of<T>(scene, tangent.cameras(), image);
        Projection<D> p;
        D offset[3], direction[3];
        project(mean, covariance, camera, p);
        offset_from_camera(mean, camera, offset);
        normalize(offset, direction);
        const T moved[6] = {p.x.d[0], p.y.d[0], p.a.d[0], p.b.d[0], p.c.d[0], row[Row<BASES>::opacity]};
        T number[6], color[3];
        footprint_tangent(p.a.v, p.b.v, p.c.v, scene.opacities[block.n], moved, number);
        if (p.antialiased) number[0] += log_dimming_tangent(p);
        color_jvp<T>(BASES, direction, row + Row<BASES>::harmonics, scene.harmonics + 3 * BASES * block.n, color);
        for (int j = 0; j < 6; ++j) out[SPLAT_NUMBERS * at + j] = number[j];
        for (int c = 0; c < 3; ++c) out[SPLAT_NUMBERS * at + 6 + c] = flags >> c & 1 ? color[c] : T(0);
        if (moments) zero(moments + SPLAT_NUMBERS * at, SPLAT_NUMBERS);
    }
}

}  // namespace diff3r
