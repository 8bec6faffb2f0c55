//! Users, their devices and blocks.

use futures_util::StreamExt;

use super::{Migrated, PAGE, Refused, Result, Route};
use crate::domain::{DeviceId, UnixMillis, UserId};
use crate::storage::walk::users;
use crate::storage::{DeviceRecord, DirectoryError, Revocation, UserRecord};

/// Copies all users first: whom a device, a block or a conversation names must exist.
pub(super) async fn copy(route: Route<'_>, now: UnixMillis, all: &mut Migrated) -> Result<()> {
    let mut list = users(&*route.source.directory);
    while let Some(user) = list.next().await {
        all.users += u64::from(copy_user(route, &user?, now).await?);
    }
    copy_removals(route, all).await?;
    let mut list = users(&*route.source.directory);
    while let Some(user) = list.next().await {
        let id = user?.id;
        copy_devices(route, &id, all).await?;
        copy_blocks(route, &id, all).await?;
    }
    Ok(())
}

/// True when something was written.
async fn copy_user(route: Route<'_>, user: &UserRecord, now: UnixMillis) -> Result<bool> {
    let directory = &route.target.directory;
    let found = directory.users(std::slice::from_ref(&user.id)).await?.pop();
    if found.as_ref() == Some(user) {
        return Ok(false);
    }
    let mut there = directory.upsert_user(&user.id, &user.display_name, now).await?;
    if let Some(revoked) = user.tokens_revoked
        && there.tokens_revoked < Some(revoked)
    {
        there = directory.revoke_tokens(&user.id, revoked).await?;
    }
    if there.deactivated != user.deactivated {
        // The moment of a deactivation is that of its revocation: it moves nothing that was not revoked.
        let at = user.tokens_revoked.unwrap_or_default();
        directory.set_deactivated(&user.id, user.deactivated, at).await?;
    }
    Ok(true)
}

/// Before the devices: one that was removed and came back is both.
async fn copy_removals(route: Route<'_>, all: &mut Migrated) -> Result<()> {
    let mut after: Option<Revocation> = None;
    loop {
        let since = UnixMillis::default();
        let page = route.source.directory.revocations(since, after.as_ref(), PAGE).await?;
        for revocation in &page {
            if let Some(device) = &revocation.device {
                copy_removal(route, &revocation.user, device, revocation.at, all).await?;
            }
        }
        match page.last() {
            Some(last) => after = Some(last.clone()),
            None => return Ok(()),
        }
    }
}

async fn copy_removal(
    route: Route<'_>,
    user: &UserId,
    device: &DeviceId,
    at: UnixMillis,
    all: &mut Migrated,
) -> Result<()> {
    let directory = &route.target.directory;
    if directory.device_removed_at(user, device).await? >= Some(at) {
        return Ok(());
    }
    match directory.remove_device(user, device, at).await {
        Ok(_) => all.devices += 1,
        Err(error @ DirectoryError::TooManyDevices(_)) => {
            all.refused.push(Refused::new(
                format!("removed device {user}/{device}"),
                error.to_string(),
            ));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

async fn copy_devices(route: Route<'_>, user: &UserId, all: &mut Migrated) -> Result<()> {
    let there = route.target.directory.devices(user).await?;
    for device in route.source.directory.devices(user).await? {
        if there.contains(&device) {
            continue;
        }
        let known = there.iter().any(|known| known.id == device.id);
        match copy_device(route, user, &device, known).await {
            Ok(()) => all.devices += 1,
            Err(error @ DirectoryError::TooManyDevices(_)) => {
                all.refused
                    .push(Refused::new(format!("device {user}/{}", device.id), error.to_string()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The first hello of a device makes it, the last one moves its time.
async fn copy_device(
    route: Route<'_>,
    user: &UserId,
    device: &DeviceRecord,
    known: bool,
) -> std::result::Result<(), DirectoryError> {
    let directory = &route.target.directory;
    if !known {
        directory.touch_device(user, &device.id, device.created).await?;
    }
    if known || device.last_seen != device.created {
        directory.touch_device(user, &device.id, device.last_seen).await?;
    }
    Ok(())
}

/// Blocks are added, never lifted: a target that was used meanwhile keeps what its users asked for.
async fn copy_blocks(route: Route<'_>, user: &UserId, all: &mut Migrated) -> Result<()> {
    let blocks = route.source.directory.blocks(user).await?;
    if blocks.is_empty() {
        return Ok(());
    }
    let there = route.target.directory.blocks(user).await?;
    for target in blocks.iter().filter(|target| !there.contains(target)) {
        route.target.directory.set_block(user, target, true).await?;
        all.blocks += 1;
    }
    Ok(())
}
