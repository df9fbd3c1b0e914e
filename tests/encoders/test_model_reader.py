"""Modules of others: borrowed and given back, codes and layers found, text models taken apart."""

import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from cmim_sklearn import InformativeEmbedding
from cmim_sklearn._encoders.model_reader import (
    _LOANS,
    align,
    arguments,
    borrowed,
    listed,
    padding_mask,
    pool,
    recorded,
    side_by_side,
    steps_of,
)


class Overriding(nn.Module):
    """Does more in ``train`` and ``eval`` than to set the mode, as some adapters do."""

    def __init__(self):
        super().__init__()
        self.part = nn.Linear(2, 2)

    def train(self, mode=True):
        raise AssertionError("train() is not to be called")


def test_modes_are_set_without_calling_train_or_eval():
    model = Overriding()
    with borrowed(list(model.modules())):
        assert not model.training
        assert not model.part.training
        assert not torch.is_grad_enabled()
    assert model.training
    assert model.part.training
    assert torch.is_grad_enabled()


def test_the_last_to_go_puts_the_mode_back():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with borrowed(list(model.modules())):
        with borrowed(list(model[0].modules())):
            assert len(model[0]._forward_pre_hooks) == 1
        assert not model[0].training
        assert len(model[0]._forward_pre_hooks) == 1
    assert model[0].training
    assert not model[0]._forward_pre_hooks
    assert model[0] not in _LOANS


def test_a_module_that_takes_no_hook_is_an_error_that_leaves_the_others_alone():
    class Stubborn(nn.Linear):
        def register_forward_pre_hook(self, *args, **kwargs):
            raise NotImplementedError("no hooks here")

    model = nn.Sequential(nn.Linear(2, 2), Stubborn(2, 2))
    with pytest.raises(NotImplementedError), borrowed(list(model.modules())):
        pass
    assert model[0].training
    assert not model[0]._forward_pre_hooks
    assert not [module for module in model.modules() if module in _LOANS]


def test_a_thread_records_its_own_calls_alone():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    seen, barrier = {}, threading.Barrier(2)

    def run(name, function):
        barrier.wait()
        for _ in range(200):
            called = []
            with recorded(lambda module, _, called=called: called.append(module)):
                function(torch.ones(1, 2))
            seen.setdefault(name, set()).add(tuple(called))

    with borrowed(list(model.modules())):
        jobs = [
            threading.Thread(target=run, args=job) for job in (("first", model[0]), ("all", model))
        ]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
    assert seen == {"first": {(model[0],)}, "all": {(model, *model)}}


def test_recorders_nest_and_go_even_after_an_error():
    layer, outer, inner = nn.Linear(2, 1), [], []

    def fail():
        layer(input=torch.ones(1, 2))
        raise ZeroDivisionError

    with borrowed([layer]), recorded(lambda module, x: outer.append(x)):
        with pytest.raises(ZeroDivisionError), recorded(lambda module, x: inner.append(x)):
            fail()
        layer(torch.zeros(1, 2))
    with borrowed([layer]):
        layer(torch.zeros(1, 2))
    assert [x.tolist() for x in inner] == [[[1.0, 1.0]]]
    assert [x.tolist() for x in outer] == [[[0.0, 0.0]]]


def test_steps_that_are_overwritten_are_kept():
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


def test_steps_stand_side_by_side():
    steps = [torch.randn(3, 2) for _ in range(4)]
    expected = torch.stack(steps, 1)
    assert_close(side_by_side(steps), expected)
    assert_close(side_by_side([step.unsqueeze(1) for step in steps]), expected)
    assert side_by_side(steps[:1]) is steps[0]


def test_a_decoder_gets_the_batch_if_it_must_have_it():
    class Two(nn.Module):
        def forward(self, z, tokens):
            return z

    for function in (lambda z, x: z, Two(), Two().forward):
        assert arguments(function, 1, 2) == (1, 2)
    for function in (lambda z: z, lambda z, x=None: z, lambda *z: z, nn.ReLU(), torch.relu):
        assert arguments(function, 1, 2) == (1,)


def test_pooling_by_hand():
    hidden = torch.tensor([[[1.0, -1], [3, -5], [9, 9]], [[2, 2], [0, 0], [0, 0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert pool(hidden, "mean", mask).tolist() == [[2, -3], [0, 0]]
    assert pool(hidden, "max", mask).tolist() == [[3, -1], [0, 0]]
    assert pool(hidden, "last", mask).tolist() == [[3, -5], [0, 0]]
    assert pool(hidden, "last").tolist() == [[9, 9], [0, 0]]
    assert pool(hidden, None, mask).tolist() == hidden.flatten(1).tolist()
    broken = hidden.masked_fill(~mask.unsqueeze(-1), torch.nan)  # padding may be no number
    for pooling in ("mean", "max", "last"):
        assert_close(pool(broken, pooling, mask), pool(hidden, pooling, mask))
    left = mask.flip(1)  # padding may stand in front
    assert pool(hidden, "last", left).tolist() == [[9, 9], [0, 0]]


def test_steps_go_before_features_and_places_are_no_steps():
    sequence, image = torch.randn(2, 5, 3), torch.randn(2, 3, 4, 5)
    for layer in (nn.Linear(3, 1), nn.ReLU(), None):
        assert_close(steps_of(sequence, layer), sequence)
        assert steps_of(image, layer) is None
    assert_close(steps_of(sequence, nn.Conv1d(5, 1, 1)), sequence.transpose(1, 2))


def test_masks_are_aligned_at_the_end_or_padded_at_the_start():
    mask = torch.tensor([[True, True, False, False]])
    assert align(mask, 4).tolist() == mask.tolist()
    assert align(mask, 3).tolist() == [[True, False, False]]
    assert align(mask, 5).tolist() == [[True, True, True, False, False]]
    assert align(mask, 9) is None
    assert align(None, 4) is None


def test_padding_is_told_by_a_mask_or_by_the_first_embedding_that_has_some():
    modules = [nn.Embedding(5, 2), nn.Embedding(5, 2, padding_idx=3), nn.Embedding(5, 2, 0)]
    tokens = torch.tensor([[3, 0, 1]])
    assert padding_mask(tokens, modules).tolist() == [[False, True, True]]
    assert padding_mask({"input_ids": tokens}, modules).tolist() == [[False, True, True]]
    mask = torch.tensor([[1, 1, 0]])
    given = {"input_ids": tokens, "attention_mask": mask}
    assert padding_mask(given, modules).tolist() == [[True, True, False]]
    for batch in (tokens.float(), tokens[0], {"image": tokens}):
        assert padding_mask(batch, modules) is None
    assert padding_mask(tokens, modules[:1]) is None


def test_many_modules_are_cut_to_the_last():
    many = {f"layer{i}": nn.ReLU() for i in range(50)}
    assert listed(many).startswith("..., layer30 (ReLU), ")
    assert listed(many).endswith("layer49 (ReLU)")
    assert listed({}) == "no modules"


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
def test_text_features_are_the_head_s_inputs_under_teacher_forcing(make, tokenizer):
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
def test_a_text_s_features_do_not_depend_on_its_neighbours(pooling, side):
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


def test_texts_are_cut_at_max_length(tokenizer):
    model = make_t5(len(tokenizer))
    cut = InformativeEmbedding.from_seq2seq(model, tokenizer, max_length=4).transform(WORDS)
    short = InformativeEmbedding.from_seq2seq(model, tokenizer).transform([w[:3] for w in WORDS])
    np.testing.assert_allclose(cut, short, atol=1e-6)


def test_models_that_only_decode_are_refused(tokenizer):
    with pytest.raises(TypeError, match="Got a Linear, which has no get_encoder and no prepare_"):
        InformativeEmbedding.from_seq2seq(nn.Linear(1, 1), tokenizer)


# -- pythae ----------------------------------------------------------------------------------------


def test_a_pythae_vae_goes_in_as_it_is():
    pythae = pytest.importorskip("pythae.models")
    model = pythae.VAE(pythae.VAEConfig(input_dim=(6,), latent_dim=2))
    X = torch.rand(20, 6)
    embedding = InformativeEmbedding(model).fit(X)
    assert embedding.layer_ == "decoder.layers.1.0"
    with torch.no_grad():
        expected = model.decoder.layers[0](model.encoder(X).embedding)
    assert_close(torch.from_numpy(embedding.transform(X)), expected)
    assert model.training
