"""Settings of Jupyter's server, in a container and in a process alike. docs/jupyter.md says what they are for."""

import os
import sys
from pathlib import Path

from jupyter_server.auth.identity import PasswordIdentityProvider
from jupyter_server.services.contents.filecheckpoints import AsyncFileCheckpoints
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from jupytext import build_async_jupytext_contents_manager_class

from dsflow import passwords

STATE = Path(os.environ["DSFLOW_JUPYTER"])
# The longest path that a socket may have, less what Jupyter adds to a folder: /kernel-UUID-ipc-N.
LONGEST_FOLDER = 107 - len("/kernel--ipc-9") - 36


class WorkspacePassword(PasswordIdentityProvider):
    """Lets in who knows the password of the workspace."""

    def passwd_check(self, password):
        """Say whether it is the password."""
        return passwords.matches(self.hashed_password, password)


class Notebooks(build_async_jupytext_contents_manager_class(AsyncLargeFileManager)):
    """Files that open as notebooks, those of text without a question for their kernel."""

    async def get(self, path, content=True, type=None, format=None, require_hash=False):
        """Give a file, and where it is a notebook that names no kernel, Python's."""
        model = await super().get(path, content, type, format, require_hash)
        if model["type"] == "notebook" and model["content"]:
            model["content"]["metadata"].setdefault("kernelspec", {"name": "python3", "display_name": "Python 3"})
        return model


class Checkpoints(AsyncFileCheckpoints):
    """What files were before, beside the other files of this service: folders of jobs hold what their authors wrote."""

    def checkpoint_path(self, checkpoint_id, path):
        """Give the place of a checkpoint; without the folder, Jupyter would take the system's temporary one."""
        folder = Path(self._get_os_path(path.strip("/").rpartition("/")[0]))
        folder.mkdir(parents=True, exist_ok=True)
        return super().checkpoint_path(checkpoint_id, path)


# What `dsflow dev` asked for (dsflow.interactive) ends with the server that it was asked of.
for request in STATE.glob("dev-*.json"):
    request.unlink()

c = get_config()  # noqa: F821 - Jupyter gives it
c.ServerApp.identity_provider_class = WorkspacePassword
c.ServerApp.contents_manager_class = Notebooks
c.PasswordIdentityProvider.hashed_password = (STATE / "password").read_text("ascii").strip()
c.PasswordIdentityProvider.password_required = True
c.PasswordIdentityProvider.allow_password_change = False
# No token, whatever the environment holds: it would stand in addresses, and in the log.
c.IdentityProvider.token = ""

# Only a page that the browser itself calls local may speak to the server, unless it is to be reached from elsewhere.
c.ServerApp.allow_remote_access = bool(os.environ.get("DSFLOW_JUPYTER_REMOTE"))
# Root is who started it: in a container with nothing but the workspace, or on the machine where root works.
c.ServerApp.allow_root = True
c.ServerApp.port_retries = 0
c.ServerApp.open_browser = False
c.ServerApp.quit_button = False
# A restart logs nobody out.
c.ServerApp.cookie_secret_file = str(STATE / "cookie_secret")
c.LabApp.extension_manager = "readonly"
# Lab would ask for Node.js, to build in what a library brings along for it.
c.ServerApp.tornado_settings = {"page_config_data": {"buildAvailable": False, "buildCheck": False}}

c.ContentsManager.checkpoints_class = Checkpoints
c.FileCheckpoints.root_dir = str(STATE / "checkpoints")
c.FileContentsManager.delete_to_trash = False
c.JupytextConfiguration.notebook_metadata_filter = "-all"
c.JupytextConfiguration.cell_metadata_filter = "tags,-all"

# Whoever else works on this machine can listen to a kernel that speaks over TCP. A socket on a folder that Docker
# shares with another system does not always work, so a container has it on its own disk.
runtime = Path("/tmp/jupyter") if str(STATE) == "/state" else STATE / "runtime"
os.environ["JUPYTER_RUNTIME_DIR"] = str(runtime)
if len(os.fsencode(runtime)) <= LONGEST_FOLDER:
    c.KernelManager.transport = "ipc"
# What `%pip install` puts there, every kernel of this workspace finds (dsflow.interactive): the environment itself is
# shared and stays as it is.
os.environ["PIP_TARGET"] = str(STATE / "packages" / f"python{sys.version_info.major}.{sys.version_info.minor}")
