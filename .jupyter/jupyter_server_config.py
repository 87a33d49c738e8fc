"""JupyterLab, as `make lab` starts it, opens notebooks without marking them as unsaved.

It writes two things into a notebook as soon as a kernel runs: the kernel's name for people, and the
version of Python. `nbdev_clean` takes both out again, since they differ from machine to machine.
Here the server adds them while it reads the file, so that JupyterLab has nothing to change.
"""

from ipykernel.ipkernel import IPythonKernel
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

KERNEL = "python3"
SPEC = KernelSpecManager().get_kernel_spec(KERNEL)
METADATA = {
    "kernelspec": {"name": KERNEL, "display_name": SPEC.display_name, "language": SPEC.language},
    "language_info": IPythonKernel.language_info,
}


class NotebooksWithKernel(AsyncLargeFileManager):
    """Files as they are, and notebooks of this kernel with its whole metadata."""

    async def get(self, *arguments, **keywords):
        model = await super().get(*arguments, **keywords)
        if model["type"] == "notebook" and model["content"]:
            metadata = model["content"]["metadata"]
            if metadata.get("kernelspec", {}).get("name") == KERNEL:
                metadata |= METADATA
        return model


get_config().ServerApp.contents_manager_class = NotebooksWithKernel  # noqa: F821, Jupyter gives it
