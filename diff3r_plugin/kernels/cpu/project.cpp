// Gaussians to splats: projection, color, and the box of pixels that a splat can touch.
#include <cmath>

#include "gaussian_packs.h"
#include "parallel.h"

namespace diff3r {
namespace {

template <class T> int32_t clamp_pixel(T value, T limit) { return int32_t(value < T(-1) ? T(-1) : value > limit ? limit : value); }

template <class T> void colors(const Scene<T>& scene, int64_t first, int count, const Pack<T>* direction, Pack<T>* out) {
    Pack<T> basis[MAX_BASES], coefficients[padded<T>(3 * MAX_BASES)];
    const int bases = int(scene.bases);
    load_coefficients(scene, scene.harmonics, first, count, coefficients);
    harmonic_basis(bases, direction[0], direction[1], direction[2], basis);
    for (int c = 0; c < 3; ++c) {
        out[c] = Pack<T>(T(COLOR_OFFSET));
        for (int k = 0; k < bases; ++k) out[c] += coefficients[c * bases + k] * basis[k];
    }
}

// Half-width and half-height of the ellipse where alpha reaches the skip threshold, a little enlarged against rounding.
template <class T> DIFF3R_INLINE T reach(T log_ratio, T variance) { return std::sqrt(T(2) * log_ratio * variance) * T(1.0001) + T(0.001); }

template <class T>
void project_pack(Linearization<T>& lin, int64_t image, const Camera<Pack<T>>& camera, int64_t first, int count, SortInput<T>& sort,
                  Diff3rCounts& counts) {
    const Scene<T>& scene = lin.scene;
    const int64_t scene_first = image / scene.views * scene.gaussians + first, image_first = image * scene.gaussians + first;
    Pack<T> mean[3], covariance[6], offset[3], direction[3], color[3];
    Projection<Pack<T>> p;
    load_vector3(scene.means, scene_first, count, mean);
    load_symmetric(scene, scene.covariances, scene_first, count, covariance);
    const Pack<T> opacity = load_strided(scene.opacities + scene_first, 1, count);
    project(mean, covariance, camera, p);
    offset_from_camera(mean, camera, offset);
    normalize(offset, direction);
    colors(scene, scene_first, count, direction, color);
    const auto sound = both(p.visible, is_finite(opacity + color[0] + color[1] + color[2]));

    for (int l = 0; l < count; ++l) {
        const T depth = p.point[2][l], o = p.antialiased ? opacity[l] * p.dimming[l] : opacity[l];
        int32_t& tiles = lin.tile_counts[image_first + l];
        tiles = 0;
        lin.lit[image_first + l] = 0;
        if (!lane(sound, l)) {
            counts.degenerate += !(depth <= camera.near_plane || depth >= camera.far_plane);
            continue;
        }
        if (!(o >= T(ALPHA_SKIP))) continue;
        const T log_ratio = std::log(o / T(ALPHA_SKIP));
        const T reach_x = reach(log_ratio, p.cov_xx[l]), reach_y = reach(log_ratio, p.cov_yy[l]);
        Splat<T> s;
        s.x = p.x[l], s.y = p.y[l], s.a = p.a[l], s.b = p.b[l], s.c = p.c[l], s.opacity = o;
        const T right = T(scene.width), bottom = T(scene.height);
        s.x0 = clamp_pixel(std::ceil(s.x - reach_x - T(0.5)), right);
        s.x1 = clamp_pixel(std::floor(s.x + reach_x - T(0.5)), right);
        s.y0 = clamp_pixel(std::ceil(s.y - reach_y - T(0.5)), bottom);
        s.y1 = clamp_pixel(std::floor(s.y + reach_y - T(0.5)), bottom);
        if (s.x0 < 0) s.x0 = 0;
        if (s.y0 < 0) s.y0 = 0;
        if (s.x1 >= scene.width) s.x1 = int32_t(scene.width) - 1;
        if (s.y1 >= scene.height) s.y1 = int32_t(scene.height) - 1;
        if (s.x0 > s.x1 || s.y0 > s.y1) continue;
        int lit = 0;
        for (int c = 0; c < 3; ++c) {
            const T light = color[c][l];
            lit |= int(light > T(0)) << c;
            s.color[c] = light > T(0) ? light : T(0);
        }
        tiles = find_tiles(s, sort.boxes[image_first + l]);
        if (!tiles) continue;
        lin.splats[image_first + l] = s;
        lin.lit[image_first + l] = uint8_t(lit);
        sort.depths[image_first + l] = depth;
        ++counts.visible;
    }
}

}  // namespace

template <class T> void project_splats(Linearization<T>& lin, SortInput<T>& sort, int threads) {
    const Scene<T>& scene = lin.scene;
    const int64_t tasks = pack_tasks<T>(scene.gaussians);
    Buffer<Diff3rCounts> partial(scene.images() * tasks);
    parallel_for(scene.images() * tasks, lin.gaussian_threads(threads), [&](int64_t task, int) {
        const int64_t image = task / tasks;
        Camera<Pack<T>> camera;
        load_camera(scene, image, camera);
        Diff3rCounts counts{};
        for_each_pack<T>(task % tasks, scene.gaussians,
                         [&](int64_t first, int count) { project_pack(lin, image, camera, first, count, sort, counts); });
        partial[task] = counts;
    });
    for (int64_t task = 0; task < partial.count(); ++task) {
        lin.counts.visible += partial[task].visible;
        lin.counts.degenerate += partial[task].degenerate;
    }
}

template void project_splats(Linearization<float>&, SortInput<float>&, int);
template void project_splats(Linearization<double>&, SortInput<double>&, int);

}  // namespace diff3r
