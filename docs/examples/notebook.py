from marl import Callback, Experiment, MAPPOConfig, Settings, Task, draw_curve, write_video


class Printer(Callback):
    def on_evaluation(self, run, record):
        print(record["frames"], "frames, returns", record["returns"]["team"])


settings = Settings(total_frames=200_000, num_envs=60, seed=0)
experiment = Experiment(
    Task("vmas/navigation"),
    MAPPOConfig(gamma=0.95),
    settings=settings,
    directory="runs/notebook",  # must be new
    callbacks=[Printer()],
)
returns = experiment.run()  # {"team": [32 returns]}
draw_curve(experiment.directory)
write_video(experiment.film(), experiment.directory / "video.gif")
