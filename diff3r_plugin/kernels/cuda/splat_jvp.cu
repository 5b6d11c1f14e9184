// Tangents of Gaussians (and cameras) to tangents of splats: the projection on dual numbers.
#include "device.h"

namespace diff3r {

constexpr int SPLAT_JVP_THREADS = 128;

template <class T> __device__ __forceinline__ void load_moving_camera(const DeviceScene<T>& scene, const T* tangents, int64_t image, Camera<Dual<T>>& camera) {
    using D = Dual<T>;
    Camera<T> still;
    load_camera(scene, image, still);
    const T* matrix = tangents ? tangents + 16 * image : nullptr;
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j)
            camera.rotation[3 * i + j] = D::with_tangent(still.rotation[3 * i + j], matrix ? matrix[4 * i + j] : T(0));
        camera.translation[i] = D::with_tangent(still.translation[i], matrix ? matrix[4 * i + 3] : T(0));
    }
    camera.fx = still.fx, camera.fy = still.fy, camera.cx = still.cx, camera.cy = still.cy;
    camera.x_low = still.x_low, camera.x_high = still.x_high, camera.y_low = still.y_low, camera.y_high = still.y_high;
    camera.near_plane = still.near_plane, camera.far_plane = still.far_plane;
}

template <class T> __global__ void splat_jvp_kernel(DeviceScene<T> scene, VectorView<T> tangent, T* out) {
    using D = Dual<T>;
    const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= scene.images() * scene.gaussians) return;
    const int flags = scene.flags[at];
    T* number = out + SPLAT_NUMBERS * at;
    if (!(flags & VISIBLE)) {
        zero(number, SPLAT_NUMBERS);
        return;
    }
    const int64_t image = at / scene.gaussians, n = image / scene.views * scene.gaussians + at % scene.gaussians;
    T value[6], moved[6];
    D mean[3], covariance[6], offset[3], direction[3];
    for (int j = 0; j < 3; ++j) mean[j] = D::with_tangent(scene.means[3 * n + j], tangent.means[3 * n + j]);
    load_symmetric(scene.covariances, n, value);
    load_symmetric<T>(tangent.covariances, n, moved);
    for (int j = 0; j < 6; ++j) covariance[j] = D::with_tangent(value[j], moved[j]);
    Camera<D> camera;
    load_moving_camera<T>(scene, tangent.world_to_camera, image, camera);
    Projection<D> p;
    project(mean, covariance, camera, p);
    offset_from_camera(mean, camera, offset);
    normalize(offset, direction);
    T color[3];
    const int64_t first = 3 * scene.bases * n;
    color_jvp<T>(scene.bases, direction, tangent.harmonics + first, scene.harmonics + first, color);
    number[0] = p.x.d[0], number[1] = p.y.d[0];
    number[2] = p.a.d[0], number[3] = p.b.d[0], number[4] = p.c.d[0];
    number[5] = tangent.opacities[n];
    for (int c = 0; c < 3; ++c) number[6 + c] = flags >> c & 1 ? color[c] : T(0);
}

template <class T> int32_t splat_jvp(const Diff3rDeviceScene* s, const Diff3rVector* tangent, void* splats) {
    const DeviceScene<T> scene(*s);
    return launch(s->queue, blocks_for(scene.images() * scene.gaussians, SPLAT_JVP_THREADS), SPLAT_JVP_THREADS, splat_jvp_kernel<T>, scene,
                  VectorView<T>(*tangent), static_cast<T*>(splats));
}

}  // namespace diff3r

DIFF3R_EXPORT(splat_jvp, (const Diff3rDeviceScene* s, const Diff3rVector* tangent, void* splats), (s, tangent, splats))
