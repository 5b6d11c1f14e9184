// Gaussians of one scene, a pack of them at a time, as the per-splat kernels read them.
#pragma once

#include "math/dual.h"
#include "math/harmonics.h"
#include "rows.h"
#include "state.h"

namespace diff3r {

constexpr int64_t PACKS_PER_TASK = 32;

template <class T> int64_t pack_tasks(int64_t gaussians) {
    const int64_t per_task = PACKS_PER_TASK * Pack<T>::lanes;
    return (gaussians + per_task - 1) / per_task;
}

// Calls body(first, count) for each pack of task `task` out of pack_tasks(gaussians).
template <class T, class Body> DIFF3R_INLINE void for_each_pack(int64_t task, int64_t gaussians, const Body& body) {
    const int64_t begin = task * PACKS_PER_TASK * Pack<T>::lanes;
    int64_t end = begin + PACKS_PER_TASK * Pack<T>::lanes;
    if (end > gaussians) end = gaussians;
    for (int64_t first = begin; first < end; first += Pack<T>::lanes)
        body(first, int(end - first < Pack<T>::lanes ? end - first : Pack<T>::lanes));
}

template <class T> DIFF3R_INLINE void load_vector3(const T* array, int64_t first, int count, Pack<T>* out) {
    load_rows(array + 3 * first, 3, 3, count, 3 * count, out);
}

// The coefficients of `array` [B, N, 3, bases] in their order.
template <class T>
DIFF3R_INLINE void load_coefficients(const Scene<T>& scene, const T* array, int64_t first, int count, Pack<T>* out) {
    const int numbers = int(3 * scene.bases);
    load_rows(array + first * numbers, numbers, numbers, count, (scene.batch * scene.gaussians - first) * numbers, out);
}

// Six numbers of the symmetric part of `array` [B, N, 3, 3].
template <class T>
DIFF3R_INLINE void load_symmetric(const Scene<T>& scene, const T* array, int64_t first, int count, Pack<T>* out) {
    Pack<T> full[padded<T>(9)];
    load_rows(array + 9 * first, 9, 9, count, (scene.batch * scene.gaussians - first) * 9, full);
    int entry = 0;
    for (int i = 0; i < 3; ++i)
        for (int j = i; j < 3; ++j, ++entry)
            out[entry] = i == j ? full[4 * i] : T(0.5) * (full[3 * i + j] + full[3 * j + i]);
}

template <class T> DIFF3R_INLINE void load_camera(const Scene<T>& scene, int64_t image, Camera<Pack<T>>& camera) {
    Camera<T> one;
    set_lens(one, scene.intrinsics + 9 * image, scene.near_planes[image], scene.far_planes[image], T(scene.width), T(scene.height), scene.dilation,
             scene.antialiased);
    const T* matrix = scene.world_to_camera + 16 * image;
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) camera.rotation[3 * i + j] = Pack<T>(matrix[4 * i + j]);
        camera.translation[i] = Pack<T>(matrix[4 * i + 3]);
    }
    copy_lens(one, camera);
}

// Which of the pack's Gaussians are rendered in an image.
template <class T> DIFF3R_INLINE bool load_visible(const int32_t* tile_counts, int64_t first, int count, PackMask<T>& visible) {
    visible = converted<T>(first_of<Pack<T>::lanes>(tile_counts + first, count)) > Pack<T>(T(0));
    return any(visible);
}

// Channels that are clamped at zero have no derivative: 1 where lit.
template <class T> DIFF3R_INLINE void load_lit(const Linearization<T>& lin, int64_t at, int count, Pack<T>* lit) {
    const auto channels = first_of<Pack<T>::lanes>(lin.lit.get() + at, count);
    for (int c = 0; c < 3; ++c) lit[c] = converted<T>((channels >> c) & 1);
}

}  // namespace diff3r
