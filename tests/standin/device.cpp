// A torch device in the memory of the CPU, to find code that assumes the CPU. See __init__.py.
//
// Tensors of this device are allocated apart. Every operation copies them to the CPU and back, and
// raises where CUDA would: for tensors or generators of two devices.

#include <cstdlib>
#include <cstring>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/library.h>

namespace {

using at::Tensor;
constexpr auto TYPE = c10::DeviceType::PrivateUse1;
const c10::Device DEVICE(TYPE, 0);
const c10::Stream STREAM(c10::Stream::DEFAULT, DEVICE);

struct Guard final : c10::impl::NoOpDeviceGuardImpl<TYPE> {
  c10::Device exchangeDevice(c10::Device) const override { return DEVICE; }
  c10::Device getDevice() const override { return DEVICE; }
  c10::Stream getStream(c10::Device) const noexcept override { return STREAM; }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return STREAM; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag)
      const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t n) override {
    void* data = c10::alloc_cpu(n);
    return {data, data, &c10::free_cpu, DEVICE};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &c10::free_cpu; }
  void copy_data(void* to, const void* from, size_t n) const override { std::memcpy(to, from, n); }
};
Memory memory;
REGISTER_ALLOCATOR(TYPE, &memory);

struct StandinGenerator final : at::CPUGeneratorImpl {
  // Other random numbers than those of the CPU for the same seed.
  static constexpr uint64_t SHIFT = 0x9e3779b9;
  StandinGenerator() { device_ = DEVICE; }
  void set_current_seed(uint64_t seed) override { CPUGeneratorImpl::set_current_seed(seed ^ SHIFT); }
  uint64_t current_seed() const override { return CPUGeneratorImpl::current_seed() ^ SHIFT; }
  void move_to(c10::Device device) { device_ = device; }
};

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  at::Generator getNewGenerator(c10::DeviceIndex) const override {
    return at::make_generator<StandinGenerator>();
  }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    static auto generator = at::make_generator<StandinGenerator>();
    return generator;
  }
};

Tensor empty_strided(
    c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<c10::ScalarType> dtype,
    std::optional<c10::Layout>, std::optional<c10::Device>, std::optional<bool>) {
  auto type = dtype.value_or(c10::get_default_dtype_as_scalartype());
  static const bool is_single = std::getenv("CMIM_STANDIN_FLOAT32") != nullptr;
  TORCH_CHECK_TYPE(type != c10::kDouble || !is_single, "the stand-in device has no float64");
  return at::detail::empty_strided_generic(
      size, stride, &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), type);
}

Tensor empty(
    c10::IntArrayRef size, std::optional<c10::ScalarType> dtype, std::optional<c10::Layout> layout,
    std::optional<c10::Device> device, std::optional<bool> pin, std::optional<c10::MemoryFormat>) {
  std::vector<int64_t> stride(size.size(), 1);
  for (int64_t i = int64_t(size.size()) - 2; i >= 0; --i)
    stride[i] = stride[i + 1] * std::max<int64_t>(size[i + 1], 1);
  return empty_strided(size, stride, dtype, layout, device, pin);
}

// The same memory as a tensor of the CPU.
Tensor host(const Tensor& x) {
  if (x.device().type() != TYPE) return x;
  return at::from_blob(x.data_ptr(), x.sizes(), x.strides(), x.options().device(at::kCPU));
}

Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  host(to).copy_(host(from));
  return to;
}

Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  if (to.sizes() != from.sizes()) at::native::resize_(to, from.sizes(), std::nullopt);
  return copy_from(from, to, false);
}

at::Scalar local_scalar_dense(const Tensor& x) { return host(x).item(); }

const Tensor& resize(const Tensor& x, c10::IntArrayRef size, std::optional<c10::MemoryFormat>) {
  auto fresh = empty(size, x.scalar_type(), {}, {}, {}, {});
  x.unsafeGetTensorImpl()->set_storage_keep_dtype(fresh.storage());
  x.unsafeGetTensorImpl()->set_sizes_contiguous(size);
  return x;
}

Tensor& set_storage(Tensor& x, c10::Storage storage) {
  int64_t n = storage.nbytes() / x.itemsize();
  return at::native::set_storage_cpu_(x, std::move(storage), 0, {n}, {});
}

using Ints = c10::SymIntArrayRef;

Tensor convolution(
    const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, Ints stride,
    Ints padding, Ints dilation, bool transposed, Ints output_padding, c10::SymInt groups) {
  auto shift = bias && bias->defined() ? std::optional<Tensor>(host(*bias)) : std::nullopt;
  return at::convolution_symint(host(x), host(weight), shift, stride, padding, dilation, transposed,
                                output_padding, groups).to(DEVICE);
}

std::tuple<Tensor, Tensor, Tensor> convolution_backward(
    const Tensor& gradient, const Tensor& x, const Tensor& weight, Ints stride, Ints padding,
    Ints dilation, bool transposed, Ints output_padding, c10::SymInt groups,
    std::array<bool, 3> mask) {
  std::vector<c10::SymInt> n_biases{gradient.sym_size(1)};
  auto found = at::convolution_backward_symint(
      host(gradient), host(x), host(weight), Ints(n_biases), stride, padding, dilation, transposed,
      output_padding, groups, mask);
  auto there = [](const Tensor& part) { return part.defined() ? part.to(DEVICE) : part; };
  return {there(std::get<0>(found)), there(std::get<1>(found)), there(std::get<2>(found))};
}

void on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& name = op.schema().name();
  const bool takes_indices = name.find("index") != std::string::npos;
  const auto arguments = torch::jit::last(stack, op.schema().arguments().size());
  std::vector<at::Generator> generators;
  auto check = [&](const Tensor& x) {
    const bool is_alone = !x.defined() || x.device().type() == TYPE || x.dim() == 0;
    TORCH_CHECK(is_alone || takes_indices, name, ": expected all tensors on the stand-in device, ",
                "but found at least one of shape ", x.sizes(), " on ", x.device());
  };
  for (const c10::IValue& value : arguments) {
    if (value.isTensor()) check(value.toTensor());
    if (value.isTensorList()) for (const Tensor& x : value.toTensorVector()) check(x);
    if (value.isGenerator()) {
      generators.push_back(value.toGenerator());
      TORCH_CHECK(generators.back().device().type() == TYPE, name,
                  ": expected a generator of the stand-in device but found one of the CPU");
    }
  }
  for (auto& g : generators) g.get<StandinGenerator>()->move_to(at::kCPU);
  try {
    at::native::cpu_fallback(op, stack);
  } catch (...) {
    for (auto& g : generators) g.get<StandinGenerator>()->move_to(DEVICE);
    throw;
  }
  for (auto& g : generators) g.get<StandinGenerator>()->move_to(DEVICE);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("as_strided", &at::native::as_strided_tensorimpl);
  m.impl("view", &at::native::view);
  m.impl("_reshape_alias", &at::native::_reshape_alias);
  m.impl("unfold", &at::native::unfold);
  m.impl("resize_", &resize);
  m.impl("set_.source_Storage", &set_storage);
  m.impl("set_.source_Storage_storage_offset", &at::native::set_storage_cpu_);
  m.impl("convolution_overrideable", &convolution);
  m.impl("convolution_backward_overrideable", &convolution_backward);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("_local_scalar_dense", &local_scalar_dense);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_cpu>());
}

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  KERNEL_PRIVATEUSEONE(linear, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(layer_norm, fp32)
}

const bool is_registered = [] {
  static Hooks hooks;
  at::RegisterPrivateUse1HooksInterface(&hooks);
  return true;
}();

}  // namespace
