//! Moves the read marker behind what is shown, one request at a time.

use stonechat_client::Client;
use tokio::sync::watch;

/// Tells how far was shown; ends when dropped.
pub(super) struct ReadMarker(watch::Sender<u64>);

impl ReadMarker {
    pub(super) fn start(client: Client, conversation_id: String) -> Self {
        let (shown, mut news) = watch::channel(0);
        tokio::spawn(async move {
            while news.changed().await.is_ok() {
                let seq = *news.borrow_and_update();
                if let Err(error) = client.mark_read(&conversation_id, seq, false).await {
                    tracing::debug!(%error, "the read marker did not move");
                }
            }
        });
        Self(shown)
    }

    /// Everything up to `seq` was shown.
    pub(super) fn shown(&self, seq: u64) {
        self.0.send_if_modified(|known| {
            let further = seq > *known;
            *known = seq.max(*known);
            further
        });
    }
}
