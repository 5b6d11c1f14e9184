"""What ctypes calls by is read from the header that the C side is compiled against."""

import ctypes

import pytest

from diff3r_plugin.kernels.loading import library_cpu
from diff3r_plugin.kernels.loading.c_header import functions_of_types, plain_functions
from diff3r_plugin.kernels.loading.structures import Chart

HEADER = library_cpu.HEADER.read_text(encoding="utf-8")


def test_parameters_become_the_types_that_ctypes_calls_by():
    header = """
// DIFF3R_FUNCTION(a comment, (float nothing))
DIFF3R_FUNCTION(one, (const Diff3rChart* chart, int32_t threads, const void*, double* sums,
                      void** handle, int64_t count))
const char* diff3r_text();
void diff3r_nothing(double* out, int32_t capacity);
"""
    (name, found), *_ = functions_of_types(header, {"Diff3rChart": Chart}).items()
    pointer, pointers = ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
    assert name == "one" and found.result is ctypes.c_int32
    assert found.arguments == (ctypes.POINTER(Chart), ctypes.c_int32, pointer, pointer, pointers, ctypes.c_int64)
    plain = plain_functions(header, {})
    assert plain["text"].result is ctypes.c_char_p and plain["text"].arguments == ()
    assert plain["nothing"].result is None and plain["nothing"].arguments == (pointer, ctypes.c_int32)


@pytest.mark.parametrize("parameter", ["float x", "Diff3rUnknown* scene", "Diff3rChart chart"])
def test_a_type_that_nobody_knows_is_refused(parameter):
    with pytest.raises(ValueError, match=f"parameter '{parameter.replace('*', '.')}'; known are int32_t"):
        functions_of_types(f"DIFF3R_FUNCTION(one, ({parameter}))", {"Diff3rChart": Chart})


def test_every_declaration_of_the_header_is_read():
    functions, plain = (read(HEADER, library_cpu.STRUCTURES) for read in (functions_of_types, plain_functions))
    assert len(functions) == HEADER.count("\nDIFF3R_FUNCTION(")
    assert len(plain) == HEADER.count(");\n")
    assert set(vars(library_cpu.load().by_dtype[library_cpu.torch.float32])) == set(functions)
