"""What can be evaluated: which columns a task reads, what answers mean, what is measured."""

from wasinn_host.evaluate.tasks.task import Task, TaskError, make_task, read_rows, task_names

__all__ = ["Task", "TaskError", "make_task", "read_rows", "task_names"]
