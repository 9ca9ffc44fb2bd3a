#include <pybind11/stl.h>

#include <optional>
#include <vector>

#include "core.hpp"
#include "output.hpp"
#include "rlmba/shapley_contributions.hpp"

namespace rlmba::bindings {
namespace {

using Indices = Array<std::int64_t>;

// Checks that the array's numbers are within [0, limit).
const std::int64_t* within(const Indices& a, std::int64_t size, std::int64_t limit) {
  const auto view = vector_view(a);
  if (view.size != size) throw std::invalid_argument("arrays of unequal length");
  for (std::int64_t i = 0; i < size; ++i) {
    if (view.data[i] < 0 || view.data[i] >= limit)
      throw std::invalid_argument("index out of range");
  }
  return view.data;
}

template <class T>
std::int64_t shapley_contributions(const std::vector<Array<T>>& parts, const Indices& labels,
                                   const Array<double>& bias,
                                   const std::optional<Array<bool>>& present, const Indices& parent,
                                   const Indices& added, const Indices& modality,
                                   const Indices& before, const Indices& after,
                                   const Array<double>& share, Array<double>& values) {
  if (parts.empty()) throw std::invalid_argument("expected at least one modality");
  std::vector<MatrixView<const T>> views;
  for (const auto& a : parts) views.push_back(matrix_view(a));
  const auto m = static_cast<std::int64_t>(views.size());
  const std::int64_t n = views[0].rows;
  const std::int64_t classes = views[0].cols;
  for (const auto& v : views) {
    if (v.rows != n || v.cols != classes || classes < 1) {
      throw std::invalid_argument("expected parts of one shape with at least one class");
    }
  }
  if (vector_view(bias).size != classes || vector_view(share).size != modality.size()) {
    throw std::invalid_argument("expected C biases and a share for every term");
  }
  ShapleyInput<T> in{};
  in.parts = views.data();
  in.modalities = m;
  in.labels = within(labels, n, classes);
  in.bias = bias.data();
  if (present) {
    if (!(present->flags() & py::array::c_style) || present->size() != n * m) {
      throw std::invalid_argument("expected present as a contiguous [N, M] array");
    }
    in.present = reinterpret_cast<const std::uint8_t*>(present->data());
  }
  in.coalitions = parent.size();
  in.parent = within(parent, in.coalitions, in.coalitions);
  in.added = within(added, in.coalitions, m);
  for (std::int64_t c = 1; c < in.coalitions; ++c) {
    if (in.parent[c] >= c) throw std::invalid_argument("a coalition lies before its parent");
  }
  in.terms = modality.size();
  in.modality = within(modality, in.terms, m);
  in.before = within(before, in.terms, in.coalitions);
  in.after = within(after, in.terms, in.coalitions);
  in.share = share.data();
  double* out = output(values, n * m);
  py::gil_scoped_release release;
  return RLMBA_DISPATCH(shapley_contributions, in, out);
}

template <class T>
void define(py::module_& m, const char* name) {
  m.def(name, &shapley_contributions<T>, py::arg("parts"), py::arg("labels").noconvert(),
        py::arg("bias").noconvert(), py::arg("present").noconvert(), py::arg("parent").noconvert(),
        py::arg("added").noconvert(), py::arg("modality").noconvert(),
        py::arg("before").noconvert(), py::arg("after").noconvert(), py::arg("share").noconvert(),
        py::arg("values").noconvert());
}

}  // namespace

void register_shapley_contributions(py::module_& m) {
  define<float>(m, "shapley_contributions_f32");
  define<double>(m, "shapley_contributions_f64");
}

}  // namespace rlmba::bindings
