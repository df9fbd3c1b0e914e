"""Hidden states of custom models: modules in use, codes, layers, and text models."""

import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from cmim_sklearn import InformativeEmbedding
from cmim_sklearn._encoders.model_reader import (
    _IN_USE,
    decoder_inputs,
    in_evaluation_mode,
    join_calls,
    list_modules,
    recording,
)


class Overriding(nn.Module):
    """A module whose ``train`` and ``eval`` do more than set the mode, as in some adapters."""

    def __init__(self):
        super().__init__()
        self.part = nn.Linear(2, 2)

    def train(self, mode=True):
        raise AssertionError("train() must not be called")


def test_modes_are_set_without_calling_train_or_eval():
    model = Overriding()
    with in_evaluation_mode(list(model.modules())):
        assert not model.training
        assert not model.part.training
        assert not torch.is_grad_enabled()
    assert model.training
    assert model.part.training
    assert torch.is_grad_enabled()


def test_the_last_user_restores_the_mode():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with in_evaluation_mode(list(model.modules())):
        with in_evaluation_mode(list(model[0].modules())):
            assert len(model[0]._forward_pre_hooks) == 1
        assert not model[0].training
        assert len(model[0]._forward_pre_hooks) == 1
    assert model[0].training
    assert not model[0]._forward_pre_hooks
    assert model[0] not in _IN_USE


def test_a_module_that_accepts_no_hook_raises_and_others_are_restored():
    class WithoutHooks(nn.Linear):
        def register_forward_pre_hook(self, *args, **kwargs):
            raise NotImplementedError("no hooks")

    model = nn.Sequential(nn.Linear(2, 2), WithoutHooks(2, 2))
    with pytest.raises(NotImplementedError), in_evaluation_mode(list(model.modules())):
        pass
    assert model[0].training
    assert not model[0]._forward_pre_hooks
    assert not [module for module in model.modules() if module in _IN_USE]


def test_a_thread_records_only_its_own_calls():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    seen, barrier = {}, threading.Barrier(2)

    def run(name, function):
        barrier.wait()
        for _ in range(200):
            called = []
            with recording(lambda module, _, called=called: called.append(module)):
                function(torch.ones(1, 2))
            seen.setdefault(name, set()).add(tuple(called))

    with in_evaluation_mode(list(model.modules())):
        jobs = [
            threading.Thread(target=run, args=job) for job in (("first", model[0]), ("all", model))
        ]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
    assert seen == {"first": {(model[0],)}, "all": {(model, *model)}}


def test_recorders_nest_and_end_after_an_error():
    layer, outer, inner = nn.Linear(2, 1), [], []

    def fail():
        layer(input=torch.ones(1, 2))
        raise ZeroDivisionError

    with in_evaluation_mode([layer]), recording(lambda module, x: outer.append(x)):
        with pytest.raises(ZeroDivisionError), recording(lambda module, x: inner.append(x)):
            fail()
        layer(torch.zeros(1, 2))
    with in_evaluation_mode([layer]):
        layer(torch.zeros(1, 2))
    assert [x.tolist() for x in inner] == [[[1.0, 1.0]]]
    assert [x.tolist() for x in outer] == [[[0.0, 0.0]]]


def test_inputs_in_a_loop_are_copied():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.out = nn.Identity(), nn.Linear(2, 1)

        def decode(self, z):
            state = torch.zeros(len(z), 2)
            for t in range(3):
                state.copy_(z + t)
                self.out(input=state)

    X = torch.randn(4, 2)
    features = InformativeEmbedding(Loop(), pooling=None).fit_transform(X)
    assert_close(torch.from_numpy(features), torch.cat([X, X + 1, X + 2], 1))


def test_inputs_of_several_calls_are_joined():
    steps = [torch.randn(3, 2) for _ in range(4)]
    expected = torch.stack(steps, 1)
    assert_close(join_calls(steps), expected)
    assert_close(join_calls([step.unsqueeze(1) for step in steps]), expected)
    assert join_calls(steps[:1]) is steps[0]


def test_a_decoder_with_two_required_parameters_gets_the_batch():
    class Two(nn.Module):
        def forward(self, z, tokens):
            return z

    for function in (lambda z, x: z, Two(), Two().forward):
        assert decoder_inputs(function, 1, 2) == (1, 2)
    for function in (lambda z: z, lambda z, x=None: z, lambda *z: z, nn.ReLU(), torch.relu):
        assert decoder_inputs(function, 1, 2) == (1,)


def test_only_the_last_of_many_modules_are_listed():
    many = {f"layer{i}": nn.ReLU() for i in range(50)}
    assert list_modules(many).startswith("..., layer30 (ReLU), ")
    assert list_modules(many).endswith("layer49 (ReLU)")
    assert list_modules({}) == "no modules"


# -- Hugging Face ----------------------------------------------------------------------------------

WORDS = ["abba", "c", "dabcdabc", "bad", "cab", "ddddddd"]


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer("abcd")


def make_tokenizer(characters):
    pytest.importorskip("transformers")
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "</s>", "<mask>"]
    vocabulary = {token: i for i, token in enumerate([*special, *characters])}
    letters = Tokenizer(models.WordLevel(vocabulary, unk_token="<mask>"))
    letters.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    letters.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=letters, pad_token="<pad>", eos_token="</s>", mask_token="<mask>"
    )


def make_t5(vocabulary, seed=0, d=16, tie_word_embeddings=False):
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(seed)
    sizes = {"d_model": d, "d_kv": d // 2, "d_ff": 2 * d, "num_layers": 2, "num_heads": 2}
    tokens = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    config = T5Config(
        vocab_size=vocabulary, **sizes, **tokens, tie_word_embeddings=tie_word_embeddings
    )
    return T5ForConditionalGeneration(config)


def make_bart(vocabulary):
    from transformers import BartConfig, BartForConditionalGeneration

    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=vocabulary, d_model=16, max_position_embeddings=32, pad_token_id=0,
        bos_token_id=1, eos_token_id=1, decoder_start_token_id=1, forced_eos_token_id=1,
        encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32,
    )  # fmt: skip
    return BartForConditionalGeneration(config)


def make_tied_t5(vocabulary):
    return make_t5(vocabulary, tie_word_embeddings=True)


@pytest.mark.parametrize("make", [make_t5, make_tied_t5, make_bart])
def test_text_features_are_the_inputs_of_the_head_under_teacher_forcing(make, tokenizer):
    model = make(len(tokenizer))
    embedding = InformativeEmbedding.from_seq2seq(model, tokenizer, batch_size=4).fit(WORDS)
    features = embedding.transform(WORDS)
    batch = tokenizer(WORDS, padding=True, return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    given = []
    head = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda module, args: given.append(args[0]))
    assert model.training
    with torch.no_grad():
        model.eval()(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels
        )
    handle.remove()
    model.train()
    for row, (states, word) in enumerate(zip(given[0], WORDS, strict=True)):
        expected = states[: len(word) + 1].mean(0)  # the end of the text counts as a token
        assert_close(torch.from_numpy(features[row]), expected, atol=1e-5, rtol=1e-4)
    assert embedding.layer_ is not None
    assert model.training


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pooling", ["mean", "last", "max"])
def test_features_of_a_text_do_not_depend_on_other_texts(pooling, side):
    tokenizer = make_tokenizer("abcd")
    tokenizer.padding_side = side
    model = make_t5(len(tokenizer))
    embedding = InformativeEmbedding.from_seq2seq(model, tokenizer, pooling=pooling)
    together = embedding.transform(WORDS)
    alone = np.concatenate([embedding.transform([word]) for word in WORDS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert len(np.unique(together.round(4), axis=0)) == len(WORDS)


def test_a_layer_inside_the_decoder_of_a_text_model(tokenizer):
    model = make_t5(len(tokenizer))
    embedding = InformativeEmbedding.from_seq2seq(model, tokenizer)
    outer = embedding.transform(WORDS)
    head = next(n for n, m in embedding.model.named_modules() if m is model.lm_head)
    np.testing.assert_allclose(embedding.set_params(layer=head).transform(WORDS), outer, atol=1e-6)


def test_texts_are_truncated_at_max_length(tokenizer):
    model = make_t5(len(tokenizer))
    truncated = InformativeEmbedding.from_seq2seq(model, tokenizer, max_length=4).transform(WORDS)
    short = InformativeEmbedding.from_seq2seq(model, tokenizer).transform([w[:3] for w in WORDS])
    np.testing.assert_allclose(truncated, short, atol=1e-6)


def test_models_that_are_not_encoder_decoders_raise(tokenizer):
    with pytest.raises(TypeError, match="got Linear, which has no get_encoder and no prepare_"):
        InformativeEmbedding.from_seq2seq(nn.Linear(1, 1), tokenizer)


# -- pythae ----------------------------------------------------------------------------------------


def test_a_pythae_vae_is_a_valid_model():
    pythae = pytest.importorskip("pythae.models")
    model = pythae.VAE(pythae.VAEConfig(input_dim=(6,), latent_dim=2))
    X = torch.rand(20, 6)
    embedding = InformativeEmbedding(model).fit(X)
    assert embedding.layer_ == "decoder.layers.1.0"
    with torch.no_grad():
        expected = model.decoder.layers[0](model.encoder(X).embedding)
    assert_close(torch.from_numpy(embedding.transform(X)), expected)
    assert model.training
