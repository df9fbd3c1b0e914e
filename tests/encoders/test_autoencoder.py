"""AEEncoder: an encoder and a decoder without noise or prior."""

from cmim_sklearn import AEEncoder


def test_there_are_no_parameters_of_a_posterior_or_prior():
    assert not {"posterior", "latent_prior"} & set(AEEncoder().get_params())


def test_the_loss_is_the_distortion_alone(fitted):
    encoder = fitted("AEEncoder")
    for row in encoder.net_.history:
        assert row["train_loss"] == row["train_distortion"]
