"""What the help of each command says: what it does, and examples."""

TRAIN = """\
Train a team, or several teams against each other. The run's directory holds its configuration,
records, checkpoints, learning curve and video; 'marl resume' continues it exactly."""
TRAIN_EXAMPLES = """\
examples:
  marl train                                        MAPPO on vmas/navigation
  marl train experiment=default                     the run of 'make train'
  marl train task=vmas/balance algorithm=ippo total_frames=1e6 seed=1
  marl train task=mpe2/simple_spread_v3 model=gru algorithm.actor_lr=3e-4
  marl train -m seed=0,1,2                          one run after another
  marl train task=mpe/simple_spread algorithm=mappo stacked_seeds=8    eight in one process
  marl train task=mpe2/simple_tag_v3 teams.agent.algorithm=random
  marl train start_from=RUN algorithm.actor_lr=1e-4 begin with the weights of a run
  marl train task=my_package.my_module:my_factory   an environment of your own
  marl train --explain algorithm                    what each option of the algorithm means

Settings are KEY=VALUE. task, algorithm and model choose by name ('marl list tasks'); task.…,
algorithm.… and model.… change one of their options; all others belong to the run (total_frames,
num_envs, steps, seed, device, evaluation_interval, wandb, tensorboard, directory, …).
'--explain SECTION' explains them: run, task, algorithm, model, teams, or one key such as
algorithm.gamma. '--cfg job' prints the whole configuration. Other flags are Hydra's
(--config-dir, --multirun, …).
"""
RESUME = """\
Continue a run exactly where its last checkpoint was written, as if it had never stopped; with
total_frames=… also beyond its original end."""
RESUME_EXAMPLES = "example: marl resume runs/my-run total_frames=2e6"
EVALUATE = """\
Play fresh episodes with a run's policies and print their returns and metrics; with --all, of each
of its checkpoints; or, with --versus, let the teams of several runs play against each other."""
EVALUATE_EXAMPLES = """\
examples:
  marl evaluate runs/my-run --episodes 100 --video out.mp4
  marl evaluate runs/my-run task.kwargs.N=10   more agents than in training
  marl evaluate runs/a --versus runs/b runs/c --episodes 200   who beats whom
  marl evaluate runs/my-run --all              every checkpoint that the run has kept
"""
LIST = """\
Print the names that settings and commands accept, one per line; or the runs in a folder, newest
first, with what differs between them."""
LIST_EXAMPLES = """\
examples:
  marl list tasks
  marl list runs                               all under runs/
  marl list runs task=vmas/* algorithm=mappo,ippo state=finished
  marl list runs runs/sweep-mappo actor_lr=5e-4 --json

A filter is KEY=VALUE (task, algorithm, state or a setting), a text, or a folder of runs. States are
finished, running, stopped, killed, diverged and failed.
"""
COMPARE = """\
Compare runs: those that differ in their seed only are one curve with an interval over seeds, over
frames and over seconds. The table goes to the terminal; pictures, CSV files and one page with all
of it, videos included, to a folder."""
COMPARE_EXAMPLES = """\
examples:
  marl compare runs/a runs/b                   two runs
  marl compare runs/sweep-mappo --out mappo    all runs in a folder, at any depth
  marl compare 'runs/balance-*' 'runs/old-*'   patterns

A task has a panel for each of its teams. Runs of different versions of learning, or with other
settings, are never averaged.
"""
RECORD = """\
Turn finished runs into records under results/SUITE, of which 'marl tables' makes tables and plots.
A run has to hold the absolute metric (absolute_episodes=320) and an evaluation at each interval."""
RECORD_EXAMPLES = """\
examples:
  marl record runs/balance-* --suite mine
  marl record runs/sweep-lr --suite mine --algorithm mappo_lr --task balance
  marl tables mine
"""
CHECK = """\
Play a task at random and print what it is and what it does: groups, teams, spaces, masks, rewards
(their range, whether they are shared or cancel), how episodes end, deaths, seeds, speed, a picture.
A fault ends in one sentence and exit code 2."""
CHECK_EXAMPLES = """\
examples:
  marl check vmas/balance task.kwargs.n_agents=3
  marl check ./my_tasks.py:duel
  marl check my_scenario:Scenario task.max_steps=50 --steps 500
"""
SPEED = """\
Measure how many frames per second a configuration trains at, without warm-up, split into
collecting, updating and evaluating; or the speed of its environment alone."""
SPEED_EXAMPLES = """\
examples:
  marl speed task=vmas/balance num_envs=60 --json speed.json
  marl speed task=mpe/simple_spread num_envs=1024 --environment
"""
BENCHMARK = """\
Run a suite, a grid of tasks, algorithms and seeds, and write a record of every run. Runs that have
a record are skipped and interrupted ones resume, so the same command continues a stopped suite."""
BENCHMARK_EXAMPLES = """\
examples:
  marl benchmark smoke
  marl benchmark mpe --jobs 8 --only task=spread,algorithm=mappo,hasac,seed=0
  marl benchmark mpe --jobs 4 --devices cuda:0 cuda:1
  marl benchmark my_suite.yaml --dry-run

A file that is not part of this package may name import paths (task=my_tasks:duel) only with
--trust.
"""
TABLES = """\
Write each suite's tables and plots, the overview page and the README's table from the records."""
TABLES_EXAMPLES = """\
examples:
  marl tables            all suites, the page and the README's table
  marl tables mpe        the files of one suite
  marl tables --readme mpe       the README shows that suite's table from now on
  marl tables --check    exits with 1 where a file differs from what the records give
"""
SWEEP = """\
Search for good settings: run the points of a sweep file, here and without a server. Started again
in the same directory, a sweep skips finished runs, resumes interrupted ones and retries failed
ones; a larger --count adds runs."""
SWEEP_EXAMPLES = """\
examples:
  marl sweep mappo --jobs 4 --count 20
  marl sweep mappo --count 8 task=vmas/balance total_frames=1e6
  marl sweep my_sweep.yaml --dry-run

FILE is in the format of 'wandb sweep FILE'. method: grid runs all values; random samples points;
bayes needs W&B's server and samples at random here. early_terminate stops runs that fall behind.
Runs log to W&B only with wandb=true.
"""
EXPORT = """\
Write the trained actor of each group as a file that other programs read: its agents' observations
in, their greedy actions out, with normalisation and bounds inside. card.json beside the files tells
inputs, outputs and versions. Files are checked against the policy on 100 observations."""
EXPORT_EXAMPLES = """\
examples:
  marl export RUN                              one .pt2 file for each group, by torch.export
  marl export RUN --format onnx --out robot    .onnx files; needs pip install 'marl-groups[onnx]'
  marl export RUN --checkpoint last --team adversary

A joint policy along a Bayesian network is exported without its graph.
"""
NEW = """\
Make a folder with a project of your own: an environment batched in torch, an algorithm, a callback,
and tests that pass. Change them into yours."""
NEW_EXAMPLES = """\
example: marl new my_project && cd my_project && python -m pytest
"""
