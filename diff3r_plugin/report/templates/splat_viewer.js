"use strict";
// Draws a few hundred thousand Gaussians with WebGL 2 as the refinement renders them: the same low-pass filter in pixels
// of the images it saw, the same cut-offs, back to front. Colors do not depend on the direction.
const splatViewer = (() => {
  const ALPHA_CAP = 0.99, ALPHA_SKIP = 1 / 255, FRUSTUM_MARGIN = 1.3, NEAR = 0.02;
  const ROW = 1024; // Gaussians in one row of the textures

  const VERTEX = `#version 300 es
precision highp float;
precision highp int;
uniform highp sampler2D shapes;   // two texels each: position and variance xx; variances xy, xz, yy, yz
uniform highp sampler2D depths;   // variance zz
uniform mediump sampler2D colors;
uniform mat3 turn;                // world to camera
uniform vec3 eye;
uniform vec2 focal, center, size; // of the image, px
uniform float dilation, antialiased; // px²; 1: splats are dimmed by what the dilation adds to their area
in vec2 corner;
in uint which;
out vec2 sigma;
out vec4 color;
void main() {
  gl_Position = vec4(0.0, 0.0, 2.0, 1.0);
  ivec2 at = ivec2(which % ${ROW}u, which / ${ROW}u);
  color = texelFetch(colors, at, 0);
  vec4 a = texelFetch(shapes, ivec2(2 * at.x, at.y), 0), b = texelFetch(shapes, ivec2(2 * at.x + 1, at.y), 0);
  float zz = texelFetch(depths, at, 0).x;
  vec3 p = turn * (a.xyz - eye);
  if (p.z < ${NEAR} || color.a < ${ALPHA_SKIP}) return;
  vec2 limit = ${FRUSTUM_MARGIN.toFixed(1)} * 0.5 * size / focal;
  vec2 slope = clamp(p.xy / p.z, -limit, limit);
  mat3 variance = mat3(a.w, b.x, b.y, b.x, b.z, b.w, b.y, b.w, zz);
  variance = turn * variance * transpose(turn);
  vec3 jx = vec3(focal.x, 0.0, -focal.x * slope.x) / p.z, jy = vec3(0.0, focal.y, -focal.y * slope.y) / p.z;
  float xx = dot(jx, variance * jx), xy = dot(jx, variance * jy), yy = dot(jy, variance * jy);
  float sharp = max(xx * yy - xy * xy, 0.0);
  xx += dilation, yy += dilation;
  color.a *= mix(1.0, sqrt(sharp / max(xx * yy - xy * xy, 1e-30)), antialiased);
  if (color.a < ${ALPHA_SKIP}) return;
  float middle = 0.5 * (xx + yy), reach = length(vec2(0.5 * (xx - yy), xy));
  vec2 axis = reach < 1e-9 * middle ? vec2(1.0, 0.0) : (xx >= yy ? vec2(0.5 * (xx - yy) + reach, xy) : vec2(xy, 0.5 * (yy - xx) + reach));
  axis = normalize(axis);
  vec2 spread = sqrt(max(vec2(middle + reach, middle - reach), 1e-9));
  sigma = corner * sqrt(2.0 * log(color.a / ${ALPHA_SKIP}));
  vec2 offset = axis * sigma.x * spread.x + vec2(-axis.y, axis.x) * sigma.y * spread.y;
  vec2 pixel = focal * p.xy / p.z + center + offset;
  gl_Position = vec4(2.0 * pixel.x / size.x - 1.0, 1.0 - 2.0 * pixel.y / size.y, 0.0, 1.0);
}`;
  const FRAGMENT = `#version 300 es
precision highp float;
in vec2 sigma;
in vec4 color;
out vec4 drawn;
void main() {
  float alpha = min(${ALPHA_CAP}, color.a * exp(-0.5 * dot(sigma, sigma)));
  if (alpha < ${ALPHA_SKIP}) discard;
  drawn = vec4(color.rgb * alpha, alpha);
}`;

  function half(bits) {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * 2 ** -14 * (fraction / 1024);
  }

  async function unpack(text, count) {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const buffer = await new Response(stream).arrayBuffer();
    const positions = Float32Array.from(new Uint16Array(buffer, 0, 3 * count), half);
    const scales = Float32Array.from(new Uint16Array(buffer, 6 * count, 3 * count), half);
    const turns = new Int16Array(buffer, 12 * count, 4 * count);
    const rows = Math.ceil(count / ROW);
    const shapes = new Float32Array(8 * ROW * rows), depths = new Float32Array(ROW * rows);
    const colors = new Uint8Array(4 * ROW * rows);
    colors.set(new Uint8Array(buffer, 20 * count, 4 * count));
    for (let i = 0; i < count; i++) {
      const [w, x, y, z] = [0, 1, 2, 3].map((k) => turns[4 * i + k] / 32767);
      const axes = [ // columns are the principal axes
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
      ];
      for (let k = 0; k < 9; k++) axes[k] *= scales[3 * i + (k % 3)];
      const v = (r, c) => axes[3 * r] * axes[3 * c] + axes[3 * r + 1] * axes[3 * c + 1] + axes[3 * r + 2] * axes[3 * c + 2];
      shapes.set([positions[3 * i], positions[3 * i + 1], positions[3 * i + 2], v(0, 0), v(0, 1), v(0, 2), v(1, 1), v(1, 2)], 8 * i);
      depths[i] = v(2, 2);
    }
    return { count, rows, positions, shapes, depths, colors, order: new Uint32Array(count) };
  }

  function compiled(gl) {
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    return program;
  }

  function texture(gl, unit, format, width, height, layout, type, data) {
    const made = gl.createTexture();
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D, made);
    gl.texImage2D(gl.TEXTURE_2D, 0, format, width, height, 0, layout, type, data);
    for (const key of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, key, gl.NEAREST);
    return made;
  }

  // Farthest first: counting sort by depth in 16 bits.
  function sort(scene, turn, eye) {
    const { count, positions, order } = scene, depths = new Float32Array(count);
    let low = Infinity, high = -Infinity;
    for (let i = 0; i < count; i++) {
      const z = turn[6] * (positions[3 * i] - eye[0]) + turn[7] * (positions[3 * i + 1] - eye[1]) + turn[8] * (positions[3 * i + 2] - eye[2]);
      depths[i] = z;
      if (z > NEAR) { if (z < low) low = z; if (z > high) high = z; }
    }
    const levels = 65536, scale = high > low ? (levels - 1) / Math.log(high / low) : 0;
    const keys = new Uint16Array(count), starts = new Uint32Array(levels + 1);
    for (let i = 0; i < count; i++) {
      keys[i] = depths[i] > NEAR ? Math.min(levels - 1, Math.max(0, Math.log(high / depths[i]) * scale)) : 0;
      starts[keys[i] + 1]++;
    }
    for (let k = 0; k < levels; k++) starts[k + 1] += starts[k];
    for (let i = 0; i < count; i++) order[starts[keys[i]]++] = i;
  }

  async function open(canvas, data) {
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, preserveDrawingBuffer: true });
    if (!gl) throw new Error("This browser offers no WebGL 2.");
    const scenes = [await unpack(data.before, data.count), await unpack(data.after, data.count)];
    const program = compiled(gl), place = (name) => gl.getUniformLocation(program, name);
    gl.useProgram(program);
    for (const scene of scenes) {
      scene.textures = [
        texture(gl, 0, gl.RGBA32F, 2 * ROW, scene.rows, gl.RGBA, gl.FLOAT, scene.shapes),
        texture(gl, 1, gl.R32F, ROW, scene.rows, gl.RED, gl.FLOAT, scene.depths),
        texture(gl, 2, gl.RGBA8, ROW, scene.rows, gl.RGBA, gl.UNSIGNED_BYTE, scene.colors),
      ];
    }
    ["shapes", "depths", "colors"].forEach((name, unit) => gl.uniform1i(place(name), unit));
    gl.uniform2f(place("focal"), ...data.focal);
    gl.uniform2f(place("center"), ...data.center);
    gl.uniform1f(place("dilation"), data.dilation);
    gl.uniform1f(place("antialiased"), data.antialiased ? 1 : 0);
    gl.uniform2f(place("size"), data.width, data.height);
    const corners = gl.createBuffer(), indices = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, corners);
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
    const corner = gl.getAttribLocation(program, "corner"), which = gl.getAttribLocation(program, "which");
    gl.enableVertexAttribArray(corner);
    gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
    gl.bindBuffer(gl.ARRAY_BUFFER, indices);
    gl.enableVertexAttribArray(which);
    gl.vertexAttribIPointer(which, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(which, 1);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);

    // The scene lies in the frame of the first context camera, its median depth is 1: one looks at (0, 0, 1) from 0.
    const start = { yaw: 0, pitch: 0, distance: 1, target: [0, 0, 1] };
    let view = structuredClone(start), shown = 1, pending = false, closed = false;

    function draw() {
      pending = false;
      if (closed) return;
      const scale = Math.min(window.devicePixelRatio || 1, 2);
      canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale));
      canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale));
      const cy = Math.cos(view.yaw), sy = Math.sin(view.yaw), cp = Math.cos(view.pitch), sp = Math.sin(view.pitch);
      const right = [cy, 0, -sy], down = [sp * sy, cp, sp * cy], ahead = [cp * sy, -sp, cp * cy];
      const eye = view.target.map((t, k) => t - view.distance * ahead[k]), turn = [...right, ...down, ...ahead];
      const scene = scenes[shown];
      sort(scene, turn, eye);
      scene.textures.forEach((made, unit) => { gl.activeTexture(gl.TEXTURE0 + unit); gl.bindTexture(gl.TEXTURE_2D, made); });
      gl.uniformMatrix3fv(place("turn"), true, turn);
      gl.uniform3f(place("eye"), ...eye);
      gl.bufferData(gl.ARRAY_BUFFER, scene.order, gl.DYNAMIC_DRAW);
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.clearColor(...data.background, 1);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, scene.count);
      canvas.dataset.drawn = String(1 + Number(canvas.dataset.drawn || 0));
    }
    function later() { if (!pending) { pending = true; requestAnimationFrame(draw); } }

    function orbit(dx, dy) {
      const turn = 2.2 / canvas.clientWidth;
      view.yaw += dx * turn;
      view.pitch = Math.max(-1.5, Math.min(1.5, view.pitch - dy * turn));
      later();
    }
    function pan(dx, dy) {
      const step = view.distance * data.width / (data.focal[0] * canvas.clientWidth), cy = Math.cos(view.yaw), sy = Math.sin(view.yaw);
      const cp = Math.cos(view.pitch), sp = Math.sin(view.pitch), right = [cy, 0, -sy], down = [sp * sy, cp, sp * cy];
      view.target = view.target.map((t, k) => t - step * (dx * right[k] + dy * down[k]));
      later();
    }
    function zoom(factor) { view.distance = Math.max(0.05, Math.min(20, view.distance * factor)); later(); }

    const fingers = new Map();
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, event);
    });
    canvas.addEventListener("pointermove", (event) => {
      const last = fingers.get(event.pointerId);
      if (!last) return;
      const dx = event.clientX - last.clientX, dy = event.clientY - last.clientY;
      if (fingers.size === 2) {
        const other = [...fingers.values()].find((finger) => finger.pointerId !== event.pointerId);
        const apart = (finger) => Math.hypot(finger.clientX - other.clientX, finger.clientY - other.clientY);
        zoom(apart(last) / Math.max(apart(event), 1));
        pan(dx / 2, dy / 2);
      } else if (event.buttons === 2 || event.shiftKey) pan(dx, dy);
      else orbit(dx, dy);
      fingers.set(event.pointerId, event);
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== canvas) return; // the page scrolls on until one has clicked into the scene
      event.preventDefault();
      zoom(Math.exp(event.deltaY * 0.001));
    }, { passive: false });
    const keys = { ArrowLeft: [-20, 0], ArrowRight: [20, 0], ArrowUp: [0, -20], ArrowDown: [0, 20] };
    canvas.addEventListener("keydown", (event) => {
      if (event.key in keys) orbit(...keys[event.key]);
      else if (event.key === "+") zoom(0.9);
      else if (event.key === "-") zoom(1 / 0.9);
      else return;
      event.preventDefault();
    });
    const resized = new ResizeObserver(later);
    resized.observe(canvas);
    draw();
    return {
      show(after) { shown = after ? 1 : 0; later(); },
      reset() { view = structuredClone(start); later(); },
      close() { closed = true; resized.disconnect(); gl.getExtension("WEBGL_lose_context")?.loseContext(); },
    };
  }
  return { open };
})();
