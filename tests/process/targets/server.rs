//! Real servers as backends, each with a folder and a port of its own: what they answer says which place they took a
//! path for.

use crate::wait::{signal, until};
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// One that runs. Dropped, it is killed.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Server {
    pub async fn nginx() -> Self {
        Self::start("nginx.conf", NGINX, "/usr/sbin/nginx", &["-c"]).await
    }

    /// Encoded slashes are let in: the default answers 404.
    pub async fn apache() -> Self {
        Self::start("httpd.conf", APACHE, "/usr/sbin/apache2", &["-X", "-f"]).await
    }

    async fn start(name: &str, text: &str, program: &str, arguments: &[&str]) -> Self {
        // Given back at once, and perhaps taken by another before the server asks for it: then it is another's turn.
        for _ in 0..5 {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = port.local_addr().unwrap();
            drop(port);
            let folder = tempfile::tempdir().unwrap();
            // Apache's children are another user's, if the tests are root's.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(folder.path(), mode).unwrap();
            let text = text
                .replace("FOLDER", folder.path().to_str().unwrap())
                .replace("ADDRESS", &address.to_string());
            let file = folder.path().join(name);
            fs::write(&file, text).unwrap();
            let child = Command::new(program)
                .args(arguments)
                .arg(file)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn();
            let child = child.unwrap_or_else(|fault| {
                panic!("{program} does not start: {fault}; ./test installs what the tests need")
            });
            let mut server = Self {
                address,
                child,
                _folder: folder,
            };
            if server.is_up().await {
                return server;
            }
        }
        panic!("{program} does not come up; see above what it says");
    }

    /// Whether it listens, or has ended instead.
    async fn is_up(&mut self) -> bool {
        let (child, address) = (std::cell::RefCell::new(&mut self.child), self.address);
        until("a server listens or ends", || async {
            if child.borrow_mut().try_wait().unwrap().is_some() {
                return Some(false);
            }
            TcpStream::connect(address).await.is_ok().then_some(true)
        })
        .await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked to stop, for Apache's child is its own to end.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            signal(self.child.id(), "TERM");
        }
        drop(self.child.wait());
    }
}

const NGINX: &str = "
daemon off;
master_process off;
pid FOLDER/pid;
error_log stderr crit;
events { worker_connections 512; }
http {
  access_log off;
  keepalive_requests 1000000;
  client_body_temp_path FOLDER/1; proxy_temp_path FOLDER/2; fastcgi_temp_path FOLDER/3; uwsgi_temp_path FOLDER/4; scgi_temp_path FOLDER/5;
  server {
    listen ADDRESS;
    location / { return 200 'place=elsewhere.'; }
    location /public/ { return 200 'place=public.'; }
    location /admin { return 200 'place=admin.'; }
  }
}
";

const APACHE: &str = r#"
ServerRoot FOLDER
DefaultRuntimeDir FOLDER
PidFile FOLDER/pid
DocumentRoot FOLDER
Listen ADDRESS
ServerName backend.example
User nobody
Group nogroup
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
ErrorLog /dev/null
AllowEncodedSlashes On
MaxKeepAliveRequests 0
<Directory />
  AllowOverride None
  Require all granted
</Directory>
<Location "/">
  ErrorDocument 403 "place=elsewhere."
  ErrorDocument 404 "place=elsewhere."
</Location>
<Location "/public/">
  ErrorDocument 403 "place=public."
  ErrorDocument 404 "place=public."
</Location>
<Location "/admin">
  ErrorDocument 403 "place=admin."
  ErrorDocument 404 "place=admin."
</Location>
"#;
