"""The site folder: created once, loaded as it is."""

from __future__ import annotations

import pytest

from segfed.errors import ConfigError
from segfed.sites import AgentSettings, Policy, SiteSettings, create_site, load_site
from tests.sites_samples import TASK_TOML, make_site, write_task

SETTINGS = SiteSettings(
    name="north",
    task="kidney_tumor",
    contact='Dr. "Ä" Müller 🏥 <a@b>',
    data="synthetic",
    external=True,
    policy=Policy(studies=("kidney-*", "pilot"), minimum_train_cases=5),
    agent=AgentSettings(socket="/run/segfed/north.sock", peers=(998, 1000)),
)


def test_settings_survive_the_way_through_the_file(tmp_path):
    create_site(tmp_path / "north", SETTINGS)

    assert load_site(tmp_path / "north").settings == SETTINGS


def test_a_task_file_is_copied_so_that_the_folder_is_complete(tmp_path):
    path = write_task(tmp_path)
    site = create_site(tmp_path / "north", SiteSettings(name="north", task=str(path)))
    path.unlink()

    assert load_site(site.folder).task.name == "bean"
    assert site.settings.task == "task.toml"


def test_creating_a_site_again_keeps_its_cases_and_another_one_is_refused(tmp_path):
    site = make_site(tmp_path)
    same = SiteSettings(name="north", task=str(tmp_path / "bean.toml"))

    assert create_site(site.folder, same).cases == site.cases
    with pytest.raises(ConfigError, match=r"already holds site 'north'.*name is 'north' there and"):
        create_site(site.folder, SiteSettings(name="south", task="kidney_tumor"))


def test_a_site_file_may_name_a_task_file_beside_it(tmp_path):
    (tmp_path / "my.toml").write_text(TASK_TOML)
    (tmp_path / "site.toml").write_text('name = "x"\ntask = "my.toml"\n')

    assert load_site(tmp_path).task.name == "bean"
    assert load_site(tmp_path).cases == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "x"\ntask = "kidny_tumor"\n', "Did you mean 'kidney_tumor'"),
        ('name = "x"\ntask = "my.toml"\n', "No task file at .*my.toml"),
        ('name = "a/b"\ntask = "kidney_tumor"\n', "name: String should match"),
        ('name = "x"\ntask = "kidney_tumor"\nexternl = true\n', "did you mean 'external'"),
        ('name = "x"\ntask = "kidney_tumor"\n[policy]\nminimum_rounds = 0\n', "policy.minimum_r"),
    ],
)
def test_a_wrong_site_file_is_explained(tmp_path, text, message):
    (tmp_path / "site.toml").write_text(text)

    with pytest.raises(ConfigError, match=message):
        load_site(tmp_path)


def test_a_folder_without_a_site_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no site\.toml.*segfed site init"):
        load_site(tmp_path)
    with pytest.raises(ConfigError, match="There is no folder"):
        load_site(tmp_path / "nowhere")


def test_a_folder_of_sites_is_refused_with_their_paths(tmp_path):
    folder = create_site(tmp_path / "sites" / "north", SETTINGS).folder

    with pytest.raises(ConfigError, match=rf"one of the sites in it: {folder}\."):
        load_site(tmp_path / "sites")
