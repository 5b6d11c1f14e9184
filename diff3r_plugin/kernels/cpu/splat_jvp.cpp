// Tangents of Gaussians (and cameras) to tangents of splats: the projection on dual numbers.
#include "gaussian_packs.h"
#include "parallel.h"

namespace diff3r {
namespace {

template <class T> Camera<Dual<Pack<T>>> moving_camera(const Scene<T>& scene, const T* tangents, int64_t image) {
    using D = Dual<Pack<T>>;
    Camera<Pack<T>> still;
    load_camera(scene, image, still);
    Camera<D> camera;
    const T* matrix = tangents ? tangents + 16 * image : nullptr;
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j)
            camera.rotation[3 * i + j] = D::with_tangent(still.rotation[3 * i + j], Pack<T>(matrix ? matrix[4 * i + j] : T(0)));
        camera.translation[i] = D::with_tangent(still.translation[i], Pack<T>(matrix ? matrix[4 * i + 3] : T(0)));
    }
    camera.fx = still.fx, camera.fy = still.fy, camera.cx = still.cx, camera.cy = still.cy;
    camera.x_low = still.x_low, camera.x_high = still.x_high, camera.y_low = still.y_low, camera.y_high = still.y_high;
    camera.near_plane = still.near_plane, camera.far_plane = still.far_plane;
    return camera;
}

template <class T>
void color_tangents(const Scene<T>& scene, const T* tangents, int64_t first, int count, const Dual<Pack<T>>* direction, Pack<T>* out) {
    Pack<T> moved[padded<T>(3 * MAX_BASES)], still[padded<T>(3 * MAX_BASES)];
    load_coefficients(scene, tangents, first, count, moved);
    if (scene.bases > 1) load_coefficients(scene, scene.harmonics, first, count, still);
    color_jvp(int(scene.bases), direction, moved, still, out);
}

}  // namespace

template <class T> void splat_jvp(const Linearization<T>& lin, const VectorView<T>& tangent, SplatTangent<T>* out, int threads) {
    using P = Pack<T>;
    using D = Dual<P>;
    const Scene<T>& scene = lin.scene;
    const int64_t tasks = pack_tasks<T>(scene.gaussians);
    parallel_for(scene.images() * tasks, lin.gaussian_threads(threads), [&](int64_t task, int) {
        const int64_t image = task / tasks, image_start = image * scene.gaussians, scene_start = image / scene.views * scene.gaussians;
        const Camera<D> camera = moving_camera<T>(scene, tangent.world_to_camera, image);
        for_each_pack<T>(task % tasks, scene.gaussians, [&](int64_t first, int count) {
            PackMask<T> drawn;
            if (!load_drawn(lin.tile_counts.get() + image_start, first, count, drawn)) return;
            const int64_t n = scene_start + first;
            P value[6], moved[6];
            D mean[3], covariance[6], offset[3], direction[3];
            load_vector3(scene.means, n, count, value);
            load_vector3<T>(tangent.means, n, count, moved);
            for (int j = 0; j < 3; ++j) mean[j] = D::with_tangent(value[j], moved[j]);
            load_symmetric(scene.covariances, n, count, value);
            load_symmetric<T>(tangent.covariances, n, count, moved);
            for (int j = 0; j < 6; ++j) covariance[j] = D::with_tangent(value[j], moved[j]);
            Projection<D> p;
            project(mean, covariance, camera, p);
            offset_from_camera(mean, camera, offset);
            normalize(offset, direction);

            P number[SPLAT_NUMBERS] = {p.x.d[0], p.y.d[0], p.a.d[0], p.b.d[0], p.c.d[0]};
            number[5] = load_strided<T>(tangent.opacities + n, 1, count);
            color_tangents<T>(scene, tangent.harmonics, n, count, direction, number + 6);
            for (int l = 0; l < count; ++l) {
                if (!lane(drawn, l)) continue;
                SplatTangent<T>& t = out[image_start + first + l];
                for (int j = 0; j < SPLAT_NUMBERS; ++j) t.number[j] = number[j][l];
                const int32_t lit = lin.splats[image_start + first + l].lit;
                for (int c = 0; c < 3; ++c)
                    if (!(lit >> c & 1)) t.number[6 + c] = T(0);
            }
        });
    });
}

template void splat_jvp(const Linearization<float>&, const VectorView<float>&, SplatTangent<float>*, int);
template void splat_jvp(const Linearization<double>&, const VectorView<double>&, SplatTangent<double>*, int);

}  // namespace diff3r
